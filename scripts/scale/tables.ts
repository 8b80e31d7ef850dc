import { table as markdownTable } from "../../tools/document";
import {
  ASSUMED,
  cloudflareMillion,
  cloudflareMonth,
  decisionsPerDayUntilFull,
  kindsOf,
  redisMonth,
  shardsNeeded,
  TRAFFIC,
  typicalUsage,
  type Usage,
} from "./bill";
import { countingMonth, logMonths } from "./counting";
import { ALL_PRICES, CLOUDFLARE, costOf, MILLION, PLAN, type Price, per } from "./prices";
import { waysTable } from "./ways";
import { WorldTables } from "./world-tables";

const BILLION = 1_000_000_000;
const PER_DAY = [MILLION, BILLION];
const ELSEWHERE = ["Upstash, as you go", "Upstash, fixed", "ElastiCache for Valkey"];

/** The tables of docs/scale.md. */
export async function documentTables(): Promise<string[]> {
  const world = new WorldTables();
  return [
    kindsTable(),
    waysTable(),
    monthTable(),
    billTable(),
    countingTable(),
    logsTable(),
    objectsTable(),
    await world.oneKey(),
    await world.million(),
    latencyTable(),
    pricesTable(),
  ];
}

function kindsTable(): string {
  const steady: Readonly<Record<string, Usage>> = kindsOf(Number.POSITIVE_INFINITY);
  const rows = Object.entries(kindsOf(TRAFFIC.perVisit)).map(([kind, visiting]) => {
    const usage = steady[kind] ?? visiting;
    const visitingUsd = cloudflareMillion(visiting);
    const usd = [cloudflareMillion(usage), visitingUsd, cloudflareMillion(visiting, 1) - visitingUsd].map(cents);
    return [kind, short(usage.calls), short(usage.rowsWritten), ...usd];
  });
  const visiting = `keys come for ${TRAFFIC.perVisit} and go`;
  return table(["$ a million", "object calls", "rows written", "keys in steady use", visiting, "logs of all"], rows);
}

/** Bills of a month. A cell has the bill of the first volume, then that of the second. */
function monthTable(): string {
  const rows = Object.entries(kindsOf(TRAFFIC.perVisit)).map(([kind, usage]) => {
    const bills = PER_DAY.map((perDay) => {
      const { asYouGo, fixed, valkey } = redisMonth(usage, perDay);
      return [cloudflareMonth(usage, perDay).usd, asYouGo, fixed.usd, valkey.usd].map(dollars);
    });
    return [kind, ...[0, 1, 2, 3].map((i) => bills.map((bill) => bill[i]).join(" / "))];
  });
  return table([`${PER_DAY.map(amount).join(" / ")} a day`, "Cloudflare", ...ELSEWHERE], rows);
}

/** A bill with all of its items, and what a log of every invocation adds. Each volume has two columns. */
function billTable(): string {
  const usage = typicalUsage();
  const columns = PER_DAY.map((perDay) => {
    const { items, usd } = cloudflareMonth(usage, perDay);
    const { asYouGo, fixed, valkey } = redisMonth(usage, perDay);
    return [
      [`${amount(perDay)} a day`, "$"],
      ["", dollars(PLAN.usd)],
      ...items
        .filter(isNoLog)
        .map(({ price, count }) => [
          amount(count / (price.unit.startsWith("million") ? per(price) : 1)),
          dollars(costOf(price, count)),
        ]),
      ["", `**${dollars(usd)}**`],
      ["", dollars(cloudflareMonth(usage, perDay, 1).usd - usd)],
      ["", dollars(asYouGo)],
      ["", `${dollars(fixed.usd)} (${fixed.count} of ${fixed.name})`],
      ["", `${dollars(valkey.usd)} (${valkey.nodes} nodes)`],
    ];
  });
  const items = cloudflareMonth(usage, 0).items.filter(isNoLog);
  const names = [
    "a month",
    PLAN.what,
    ...items.map(({ price }) => `${price.what}, ${price.unit}`),
    "**Cloudflare**",
    "more, with a log of every invocation",
    ...ELSEWHERE,
  ];
  const [head = [], ...rows] = names.map((name, i) => [name, ...columns.flatMap((column) => column[i] ?? [])]);
  return table(head, rows);
}

function isNoLog({ price }: { readonly price: Price }): boolean {
  return price !== CLOUDFLARE.logGb && price !== CLOUDFLARE.logGbMonths;
}

/** Each volume has two columns. */
function countingTable(): string {
  const months = ASSUMED.counting.senders.map(countingMonth);
  const head = PER_DAY.flatMap((perDay, i) => {
    const { isolates = 0, hubs = 0 } = ASSUMED.counting.senders[i] ?? {};
    return [`${amount(perDay)} a day, ${amount(isolates)} isolates, ${hubs} hubs`.replace(" 1 hubs", " 1 hub"), "$"];
  });
  const cells = (of: (month: (typeof months)[number]) => string[]) => months.flatMap(of);
  const items = months[0]?.items ?? [];
  return table(
    ["a month of counting", ...head],
    [
      ...items.map(({ what }, i) => [
        what,
        ...cells((month) => [amount(month.items[i]?.million ?? 0), dollars(month.items[i]?.usd ?? 0)]),
      ]),
      ["**`LIMITER_COUNTS=objects`**", ...cells(({ usd }) => ["", `**${dollars(usd)}**`])],
      [
        "`LIMITER_COUNTS=analytics`, million data points",
        ...cells(({ analytics }) => [amount(analytics.million), dollars(analytics.usd)]),
      ],
      ["`LIMITER_COUNTS=off`", ...cells(() => ["", "$0"])],
    ],
  );
}

function logsTable(): string {
  const months = PER_DAY.map(logMonths);
  const rows = (months[0] ?? []).map(([logged], i) => [logged, ...months.map((month) => dollars(month[i]?.[1] ?? 0))]);
  return table(["what is logged", ...PER_DAY.map((perDay) => `${amount(perDay)} a day`)], rows);
}

function objectsTable(): string {
  const { batch, callsPerSecond, decisionsPerSecond, flood } = ASSUMED;
  const row = (what: string, cell: (calls: number) => number) => [what, ...callsPerSecond.map((c) => amount(cell(c)))];
  const hottest = `${short(TRAFFIC.hottest * 100)}%`;
  return table(
    ["if an object takes", ...callsPerSecond.map((calls) => `${amount(calls)} calls/s`)],
    [
      row("most that one key admits a minute, one by one", (calls) => calls * 60),
      row(
        `most that one key admits a minute, in batches of ${batch}`,
        (calls) => Math.min(calls * batch, decisionsPerSecond) * 60,
      ),
      row("isolates that a flood must reach to fill it", (calls) => (calls * flood.denyCacheMs) / 1_000),
      row(`decisions a day until an address with ${hottest} of them is full at peak`, decisionsPerDayUntilFull),
      ...PER_DAY.map((perDay) =>
        row(`shards for ${amount(perDay)} a day, all keys shared`, (calls) => shardsNeeded(perDay, calls)),
      ),
    ],
  );
}

function latencyTable(): string {
  const { near, far, commit: c, pause, deadline } = ASSUMED.latency;
  const answers: [answer: string, formula: string, ms: (e: number, o: number) => number][] = [
    ["denied, known to the isolate", "E", (e) => e],
    ["checked; denied by every object", "E + O", (e, o) => e + o],
    ["admitted, by one object or two", "E + O + C", (e, o) => e + o + c],
    ["admitted after a call that failed once", "E + 2 O + C + P", (e, o) => e + 2 * o + c + pause],
    ["denied by one of two objects", "E + 2 O + 2 C", (e, o) => e + 2 * o + 2 * c],
    ["an object that does not answer", "E + D", (e) => e + deadline],
  ];
  const rows = answers.map(([answer, formula, ms]) => [
    answer,
    formula,
    ...[near, far].map(({ edge, object }) => String(ms(edge, object))),
  ]);
  return table(["answer", "time", "objects near, ms", "objects far, ms"], rows);
}

function pricesTable(): string {
  const rows = ALL_PRICES.map(({ what, usd, unit, included, source, asOf }) => [
    what,
    `$${usd} a ${unit}`,
    included > 0 ? amount(included) : "",
    source,
    asOf,
  ]);
  return table(["what", "price", "included a month", "page", "as of"], rows);
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]) => markdownTable(head, rows, "left");
const cents = (usd: number) => `$${usd.toFixed(2)}`;
/** Three significant digits of large amounts: the estimates are no better. */
const dollars = (usd: number) => (usd === 0 ? "$0" : usd < 100 ? cents(usd) : `$${round(usd)}`);
const short = (count: number) => String(Number(count.toFixed(2)));
const round = (count: number) => Number(count.toPrecision(3)).toLocaleString("en");

/** Three significant digits, and a word for the size: 30 million, 1.5 billion. */
function amount(count: number): string {
  if (count >= BILLION) return `${round(count / BILLION)} billion`;
  return count >= MILLION ? `${round(count / MILLION)} million` : round(count);
}
