import { ASSUMED } from "./assumptions";
import {
  cloudflareBill,
  cloudflareMillion,
  itemsOf,
  monthly,
  upstashFixed,
  upstashPayAsYouGo,
  valkeyCluster,
} from "./bill";
import { decisionsPerDayUntilFull, shardsNeeded } from "./capacity";
import { ALL_PRICES, CLOUDFLARE, costOf } from "./prices";
import { type Traffic, TYPICAL } from "./traffic";
import {
  admittedAnonymous,
  admittedSignedIn,
  batchOfManyUsers,
  batchOfOneUser,
  checked,
  deniedByAll,
  deniedByOne,
  flooded,
  type Usage,
  usageOf,
} from "./usage";

const BATCH = 32;
const MILLION = 1_000_000;
const BILLION = 1_000_000_000;

/** The kinds of decision, of the `chat` policy, an object a key. */
const kinds = (perVisit: number): [kind: string, usage: Usage][] => [
  ["admitted, signed in", admittedSignedIn(perVisit)],
  ["admitted, anonymous", admittedAnonymous(perVisit)],
  ["denied by one of two objects", deniedByOne(perVisit)],
  ["denied by the only object", deniedByAll(1)],
  [`flood of ${ASSUMED.flood.perSecond.toLocaleString("en")}/s on a user`, flooded(perVisit)],
  ["checked, signed in", checked(2)],
  [`batches of ${BATCH}, one user`, batchOfOneUser(BATCH, perVisit)],
  [`batches of ${BATCH}, as many users`, batchOfManyUsers(BATCH, perVisit)],
];

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

function kindsTable(): string {
  const { perVisit } = TYPICAL;
  const staying = kinds(Number.POSITIVE_INFINITY);
  const rows = kinds(perVisit).map(([kind, visiting], i) => {
    const usage = staying[i]?.[1] ?? visiting;
    const busy = cloudflareMillion(usage, { logged: 0 });
    const coming = cloudflareMillion(visiting, { logged: 0 });
    const logs = cloudflareMillion(visiting, { logged: 1 }) - coming;
    return [kind, short(usage.calls), short(usage.rowsWritten), cents(busy), cents(coming), cents(logs)];
  });
  const visiting = `keys come for ${perVisit} and go`;
  return table(["$ a million", "object calls", "rows written", "keys in steady use", visiting, "logs of all"], rows);
}

/** Each cell for the first of these loads, then for the second. */
function monthTable(decisionsPerDay: readonly number[]): string {
  const { perVisit, peak } = TYPICAL;
  const rows = kinds(perVisit).map(([kind, usage]) => {
    const loads = decisionsPerDay.map((decisionsPerDay) => ({ decisionsPerDay, peak, logged: 0 }));
    const bills = [cloudflareBill, upstashPayAsYouGo, upstashFixed, valkeyCluster];
    const usd = (bill: number | { usd: number }) => dollars(typeof bill === "number" ? bill : bill.usd);
    return [kind, ...bills.map((bill) => loads.map((load) => usd(bill(usage, load))).join(" / "))];
  });
  return table([`${decisionsPerDay.map(amount).join(" / ")} a day`, "Cloudflare", ...ELSEWHERE], rows);
}

const ELSEWHERE = ["Upstash, as you go", "Upstash, fixed", "ElastiCache for Valkey"];

function elsewhere(usage: Usage, load: Pick<Traffic, "decisionsPerDay" | "peak" | "logged">): string[] {
  const fixed = upstashFixed(usage, load);
  const cluster = valkeyCluster(usage, load);
  return [
    dollars(upstashPayAsYouGo(usage, load)),
    `${dollars(fixed.usd)} (${fixed.count} of ${fixed.plan.name})`,
    `${dollars(cluster.usd)} (${cluster.shards * ASSUMED.redis.nodesAShard} nodes)`,
  ];
}

/** A bill in all its items, for each of these traffics. */
function billTable(traffics: readonly Traffic[]): string {
  const usages = traffics.map((traffic) => ({ traffic, usage: usageOf(traffic) }));
  const items = usages.map(({ traffic, usage }) => itemsOf(usage, monthly(traffic.decisionsPerDay), traffic));
  const rows = (items[0] ?? []).map(({ price }, i) => [
    `${price.what}, ${price.unit}`,
    ...items.flatMap((bill) => {
      const units = bill[i]?.units ?? 0;
      return [amount(units / unitOf(price.unit)), dollars(costOf(price, units))];
    }),
  ]);
  const each = (cell: (of: { traffic: Traffic; usage: Usage }) => string) => usages.flatMap((of) => ["", cell(of)]);
  return table(
    ["a month", ...traffics.flatMap(({ decisionsPerDay }) => [`${amount(decisionsPerDay)} a day`, "$"])],
    [
      [CLOUDFLARE.plan.what, ...each(() => dollars(CLOUDFLARE.plan.usd))],
      ...rows,
      ["**Cloudflare**", ...each(({ traffic, usage }) => `**${dollars(cloudflareBill(usage, traffic))}**`)],
      ...ELSEWHERE.map((name, i) => [name, ...each(({ traffic, usage }) => elsewhere(usage, traffic)[i] ?? "")]),
    ],
  );
}

/** Prices are by the million where units are many: so are their amounts. */
const unitOf = (unit: string) => (unit.startsWith("million") ? MILLION : 1);

function objectsTable(traffic: Traffic, decisionsPerDay: readonly number[]): string {
  const cells = (cell: (callsPerSecond: number) => number) => ASSUMED.callsPerSecond.map((c) => amount(cell(c)));
  return table(
    ["if an object takes", ...ASSUMED.callsPerSecond.map((calls) => `${amount(calls)} calls/s`)],
    [
      ["most that one key admits a minute, one by one", ...cells((calls) => calls * 60)],
      [
        `most that one key admits a minute, in batches of ${BATCH}`,
        ...cells((calls) => Math.min(calls * BATCH, ASSUMED.decisionsPerSecond) * 60),
      ],
      ["isolates that a flood must reach to fill it", ...cells((calls) => (calls * ASSUMED.flood.denyCacheMs) / 1_000)],
      [
        `decisions a day until an address with ${percent(traffic.hottest)} of them is full at peak`,
        ...cells((calls) => decisionsPerDayUntilFull(traffic, calls)),
      ],
      ...decisionsPerDay.map((decisionsPerDay) => [
        `shards for ${amount(decisionsPerDay)} a day, all keys shared`,
        ...cells((calls) => shardsNeeded({ ...traffic, decisionsPerDay }, calls)),
      ]),
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
  return table(
    ["answer", "time", "objects near, ms", "objects far, ms"],
    answers.map(([answer, formula, ms]) => [
      answer,
      formula,
      String(ms(near.edge, near.object)),
      String(ms(far.edge, far.object)),
    ]),
  );
}

/** The tables of docs/scale.md. */
export function documented(): string[] {
  const volumes = [MILLION, BILLION];
  return [
    kindsTable(),
    monthTable(volumes),
    billTable(volumes.map((decisionsPerDay) => ({ ...TYPICAL, decisionsPerDay }))),
    objectsTable(TYPICAL, volumes),
    latencyTable(),
    pricesTable(),
  ];
}

/** The tables of a reader's own traffic. */
export function ownTables(traffic: Traffic): string[] {
  return [billTable([traffic]), objectsTable(traffic, [traffic.decisionsPerDay])];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

const cents = (usd: number) => `$${usd.toFixed(2)}`;
/** Of large amounts, three digits: the estimates are no better. */
const dollars = (usd: number) => (usd === 0 ? "$0" : usd < 100 ? cents(usd) : `$${round(usd)}`);
const percent = (share: number) => `${Number((share * 100).toPrecision(3))}%`;
const short = (count: number) => String(Number(count.toFixed(2)));

/** Three digits, the rest as words: 30 million, 1.5 billion. */
function amount(count: number): string {
  if (count >= BILLION) return `${round(count / BILLION)} billion`;
  if (count >= MILLION) return `${round(count / MILLION)} million`;
  return round(count);
}

const round = (count: number) => Number(count.toPrecision(3)).toLocaleString("en");
