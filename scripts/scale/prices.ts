/**
 * Public list prices, and nothing else: change one here and `npm run scale` and the test of docs/scale.md follow.
 * Each names the page that says it and when it said so.
 */
export interface Price {
  readonly what: string;
  readonly usd: number;
  /** For how many units the price is. */
  readonly per: number;
  readonly unit: string;
  /** Units a month that cost nothing. */
  readonly included: number;
  readonly source: string;
  /** When the page said so; "not confirmed" where we could not read it. */
  readonly asOf: string;
}

const MILLION = 1_000_000;

const workersPage = "developers.cloudflare.com/workers/platform/pricing";
const objectsPage = "developers.cloudflare.com/durable-objects/platform/pricing";
const logsPage = "developers.cloudflare.com/observability/pricing";
const upstashPage = "upstash.com/docs/redis/overall/billing";
const elastiCachePage = "aws.amazon.com/elasticache/pricing";

const price = (
  what: string,
  usd: number,
  per: number,
  unit: string,
  included: number,
  source: string,
  asOf: string,
): Price => ({ what, usd, per, unit, included, source, asOf });

export const CLOUDFLARE = {
  plan: price("Workers Paid plan", 5, 1, "month", 0, workersPage, "2026-11"),
  requests: price("Worker requests", 0.3, MILLION, "million", 10 * MILLION, workersPage, "2026-11"),
  cpuMs: price("Worker CPU", 0.02, MILLION, "million ms", 30 * MILLION, workersPage, "2026-11"),
  calls: price("object calls", 0.15, MILLION, "million", MILLION, objectsPage, "2026-11"),
  activeGbS: price("object duration", 12.5, MILLION, "million GB-s", 400_000, objectsPage, "2026-11"),
  rowsRead: price("rows read", 0.001, MILLION, "million", 25_000 * MILLION, objectsPage, "2026-11"),
  rowsWritten: price("rows written", 1, MILLION, "million", 50 * MILLION, objectsPage, "2026-11"),
  storedGbMonths: price("stored by objects", 0.2, 1, "GB-month", 5, objectsPage, "2026-11"),
  logGb: price("logs taken in", 0.25, 1, "GB", 50, logsPage, "2026-11, for 2026-12 on"),
  logGbMonths: price("logs kept", 0.1, 1, "GB-month", 12, logsPage, "2026-11, for 2026-12 on"),
} as const;

export const UPSTASH = {
  commands: price("Upstash commands, pay as you go", 0.2, 100_000, "100,000", 0, upstashPage, "2026-11"),
  bandwidthGb: price("Upstash bandwidth, pay as you go", 0.03, 1, "GB", 200, upstashPage, "2026-11"),
  storedGb: price("Upstash storage, pay as you go", 0.25, 1, "GB-month", 1, upstashPage, "2026-11"),
  replicas: price("Upstash Prod Pack, a database", 200, 1, "month", 0, upstashPage, "2026-11"),
} as const;

export interface FixedPlan {
  readonly name: string;
  readonly usd: number;
  readonly gb: number;
  readonly bandwidthGb: number;
  readonly commandsPerSecond: number;
}

/** The most that one database takes when it is paid as you go; the same page and month. */
export const UPSTASH_PAY_AS_YOU_GO = { gb: 100, commandsPerSecond: 10_000 };

/** Upstash's fixed plans, the same page and month. */
export const UPSTASH_PLANS: readonly FixedPlan[] = [
  { name: "250 MB", usd: 10, gb: 0.25, bandwidthGb: 50, commandsPerSecond: 10_000 },
  { name: "1 GB", usd: 20, gb: 1, bandwidthGb: 100, commandsPerSecond: 10_000 },
  { name: "5 GB", usd: 100, gb: 5, bandwidthGb: 500, commandsPerSecond: 10_000 },
  { name: "10 GB", usd: 200, gb: 10, bandwidthGb: 1_000, commandsPerSecond: 10_000 },
  { name: "50 GB", usd: 400, gb: 50, bandwidthGb: 5_000, commandsPerSecond: 10_000 },
  { name: "100 GB", usd: 800, gb: 100, bandwidthGb: 10_000, commandsPerSecond: 16_000 },
  { name: "500 GB", usd: 1_500, gb: 500, bandwidthGb: 20_000, commandsPerSecond: 16_000 },
];

export const VALKEY = {
  nodeHours: price(
    "cache.r7g.large for Valkey, us-east-1",
    0.1752,
    1,
    "node and hour",
    0,
    elastiCachePage,
    "2026-10, by a copy of AWS's price list",
  ),
  writtenGb: price(
    "synchronous durability of what is written",
    0.2,
    1,
    "GB",
    0,
    elastiCachePage,
    "not confirmed: MemoryDB's, as of our last knowledge",
  ),
} as const;

export const ALL_PRICES: readonly Price[] = [
  ...Object.values(CLOUDFLARE),
  ...Object.values(UPSTASH),
  ...Object.values(VALKEY),
];

/** What so many units a month cost, beyond those that are included. */
export function costOf({ usd, per, included }: Price, units: number): number {
  return (Math.max(0, units - included) / per) * usd;
}

/** What one more million of these units costs once the included ones are used up. */
export function costOfMore({ usd, per }: Price, units: number): number {
  return (units / per) * usd;
}
