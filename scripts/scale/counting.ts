import { ASSUMED, cloudflareMonth, sum, TRAFFIC, typicalUsage } from "./bill";
import { ANALYTICS_POINTS, CLOUDFLARE, costOf, costOfMore, type Price } from "./prices";

/** What counting and logging cost in a month, by traffic. */

const SECONDS_A_MONTH = 86_400 * ASSUMED.daysAMonth;
const { counting, activeMs, objectGb, log } = ASSUMED;

export interface CountingItem {
  readonly what: string;
  readonly million: number;
  readonly usd: number;
}

/** The bill of counting, once everything that the plan includes is used up. */
export function countingMonth({ isolates, hubs }: { readonly isolates: number; readonly hubs: number }) {
  const { sendEverySeconds, alarmEverySeconds, objects, scrapeEverySeconds, pointsASend } = counting;
  const sends = (isolates * SECONDS_A_MONTH) / sendEverySeconds;
  const writes = (objects * SECONDS_A_MONTH) / alarmEverySeconds;
  const scraped = (objects * SECONDS_A_MONTH) / scrapeEverySeconds;
  // Each wakes by its alarm, sends, and sets the next alarm.
  const hubAlarms = (hubs * SECONDS_A_MONTH) / alarmEverySeconds;
  // An alarm writes the totals, the minute and the hour, and sets the next alarm. A scrape has the three rows written too.
  const rows = writes * 4 + scraped * 3 + hubAlarms;
  const calls = sends + writes + scraped + 2 * hubAlarms;
  const writing = writes + scraped + hubAlarms;
  const gbS = ((writing * activeMs.writing + (calls - writing) * activeMs.reading) / 1_000) * objectGb;
  const item = (price: Price, count: number): CountingItem => ({
    what: `${price.what}, million`,
    million: count / 1e6,
    usd: costOfMore(price, count),
  });
  const items = [item(CLOUDFLARE.calls, calls), item(CLOUDFLARE.rowsWritten, rows), item(CLOUDFLARE.activeGbS, gbS)];
  return {
    items,
    usd: sum(items.map(({ usd }) => usd)),
    analytics: item(ANALYTICS_POINTS, (sends + 2 * hubAlarms) * pointsASend),
  };
}

/** The bill of logs, by what is logged. */
export function logMonths(perDay: number): [logged: string, usd: number][] {
  const usage = typicalUsage();
  const { usd: without } = cloudflareMonth(usage, perDay);
  const invocations = (share: number) => cloudflareMonth(usage, perDay, share).usd - without;
  const denied = perDay * ASSUMED.daysAMonth * (1 - TRAFFIC.admitted);
  const lines = (count: number) => {
    const gb = (count * log.kb) / 1e6;
    return costOf(CLOUDFLARE.logGb, gb) + costOf(CLOUDFLARE.logGbMonths, (gb * log.keptDays) / ASSUMED.daysAMonth);
  };
  return [
    ["`invocation_logs = true`", invocations(1)],
    ["the same with `head_sampling_rate = 0.01`: loses 99 of 100 faults", invocations(0.01)],
    ["`invocation_logs = false`, `RATE_LIMIT_LOG_DENIALS=1`: a line a denial", lines(denied)],
    ["the same with `RATE_LIMIT_LOG_DENIALS=0.01`", lines(denied / 100)],
    ["`invocation_logs = false`: faults, as `wrangler.toml` has it", 0],
  ];
}
