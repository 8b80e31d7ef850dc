/**
 * Public list prices, each with its page and its date. `npm run scale` and the test of docs/scale.md follow a change here.
 */
export interface Price {
  readonly what: string;
  readonly usd: number;
  /** The unit of the price, as in "$0.3 a million". It may begin with a number. */
  readonly unit: string;
  /** The amount that costs nothing in a month. */
  readonly included: number;
  readonly source: string;
  /** When the page named the price. "not confirmed" if the page could not be read. */
  readonly asOf: string;
}

export const MILLION = 1_000_000;

const from =
  (source: string, asOf: string) =>
  (what: string, usd: number, unit: string, included = 0): Price => ({ what, usd, unit, included, source, asOf });

const workers = from("developers.cloudflare.com/workers/platform/pricing", "2026-11");
const objects = from("developers.cloudflare.com/durable-objects/platform/pricing", "2026-11");
const logs = from("developers.cloudflare.com/observability/pricing", "2026-11, for 2026-12 on");
const upstash = from("upstash.com/docs/redis/overall/billing", "2026-11");
const elastiCache = "aws.amazon.com/elasticache/pricing";

export const PLAN = workers("Workers Paid plan", 5, "month");

export const CLOUDFLARE = {
  requests: workers("Worker requests", 0.3, "million", 10 * MILLION),
  cpuMs: workers("Worker CPU", 0.02, "million ms", 30 * MILLION),
  calls: objects("object calls", 0.15, "million", MILLION),
  activeGbS: objects("object duration", 12.5, "million GB-s", 400_000),
  rowsRead: objects("rows read", 0.001, "million", 25_000 * MILLION),
  rowsWritten: objects("rows written", 1, "million", 50 * MILLION),
  storedGbMonths: objects("stored by objects", 0.2, "GB-month", 5),
  logGb: logs("logs taken in", 0.25, "GB", 50),
  logGbMonths: logs("logs kept", 0.1, "GB-month", 12),
} as const;

/** The page adds that nothing is billed yet. */
export const ANALYTICS_POINTS = from("developers.cloudflare.com/analytics/analytics-engine/pricing", "2026-11")(
  "Analytics Engine data points",
  0.25,
  "million",
  10 * MILLION,
);

export const UPSTASH = {
  commands: upstash("Upstash commands, pay as you go", 0.2, "100,000"),
  bandwidthGb: upstash("Upstash bandwidth, pay as you go", 0.03, "GB", 200),
  storedGb: upstash("Upstash storage, pay as you go", 0.25, "GB-month", 1),
  replicas: upstash("Upstash Prod Pack, a database", 200, "month"),
} as const;

/** The most that one database takes, pay as you go and in the fixed plans. From the same page and month. */
export const UPSTASH_AS_YOU_GO = { gb: 100, bandwidthGb: Number.POSITIVE_INFINITY, commandsPerSecond: 10_000 };
export const UPSTASH_PLANS = [
  { name: "250 MB", usd: 10, gb: 0.25, bandwidthGb: 50, commandsPerSecond: 10_000 },
  { name: "1 GB", usd: 20, gb: 1, bandwidthGb: 100, commandsPerSecond: 10_000 },
  { name: "5 GB", usd: 100, gb: 5, bandwidthGb: 500, commandsPerSecond: 10_000 },
  { name: "10 GB", usd: 200, gb: 10, bandwidthGb: 1_000, commandsPerSecond: 10_000 },
  { name: "50 GB", usd: 400, gb: 50, bandwidthGb: 5_000, commandsPerSecond: 10_000 },
  { name: "100 GB", usd: 800, gb: 100, bandwidthGb: 10_000, commandsPerSecond: 16_000 },
  { name: "500 GB", usd: 1_500, gb: 500, bandwidthGb: 20_000, commandsPerSecond: 16_000 },
] as const;

export const VALKEY = {
  nodeHours: from(elastiCache, "2026-10, by a copy of AWS's price list")(
    "cache.r7g.large for Valkey, us-east-1",
    0.1752,
    "node and hour",
  ),
  writtenGb: from(elastiCache, "not confirmed: MemoryDB's, as of our last knowledge")(
    "synchronous durability of what is written",
    0.2,
    "GB",
  ),
} as const;

export const ALL_PRICES = [
  PLAN,
  ...Object.values(CLOUDFLARE),
  ANALYTICS_POINTS,
  ...[UPSTASH, VALKEY].flatMap((prices): Price[] => Object.values(prices)),
];

/** How many things the price pays for. */
export const per = ({ unit }: Price) => (unit.startsWith("million") ? MILLION : unit === "100,000" ? 100_000 : 1);

/** The cost of `count` things in a month. Included things cost nothing. */
export const costOf = (price: Price, count: number) => costOfMore(price, Math.max(0, count - price.included));

/** The cost of `count` things once the included amount is used up. */
export const costOfMore = (price: Price, count: number) => (count / per(price)) * price.usd;
