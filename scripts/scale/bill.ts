import { ASSUMED } from "./assumptions";
import {
  CLOUDFLARE,
  costOf,
  costOfMore,
  type FixedPlan,
  type Price,
  UPSTASH,
  UPSTASH_PAY_AS_YOU_GO,
  UPSTASH_PLANS,
  VALKEY,
} from "./prices";
import { type Placement, peakPerSecond, type Traffic } from "./traffic";
import type { Usage } from "./usage";

interface Item {
  readonly price: Price;
  readonly units: number;
}

/** The load that a bill is for, beside what each decision uses. */
type Load = Pick<Traffic, "decisionsPerDay" | "peak" | "logged"> & Placement;

/** Everything that Cloudflare bills for so many decisions, in its units; what is included is not taken off. */
export function itemsOf(usage: Usage, decisions: number, { logged, shards }: Pick<Load, "logged" | "shards">): Item[] {
  const visit = shards === undefined ? ASSUMED.visit : ASSUMED.sharedVisit;
  const calls = decisions * (usage.calls + usage.visits * visit.calls);
  const commits = decisions * (usage.commits + usage.visits * visit.calls);
  const activeSeconds = (commits * ASSUMED.activeMs.writing + (calls - commits) * ASSUMED.activeMs.reading) / 1_000;
  const logGb = (logged * (decisions * usage.requests + calls) * ASSUMED.log.kb) / 1_000_000;
  const hoursAMonth = ASSUMED.daysAMonth * 24;
  return [
    { price: CLOUDFLARE.requests, units: decisions * usage.requests },
    { price: CLOUDFLARE.cpuMs, units: decisions * ASSUMED.cpuMs },
    { price: CLOUDFLARE.calls, units: calls },
    { price: CLOUDFLARE.activeGbS, units: activeSeconds * ASSUMED.objectGb },
    { price: CLOUDFLARE.rowsRead, units: calls * ASSUMED.rowsReadACall },
    { price: CLOUDFLARE.rowsWritten, units: decisions * (usage.rowsWritten + usage.visits * visit.rows) },
    {
      price: CLOUDFLARE.storedGbMonths,
      units: (decisions * usage.visits * visit.storedKb * visit.storedHours) / hoursAMonth / 1_000_000,
    },
    { price: CLOUDFLARE.logGb, units: logGb },
    { price: CLOUDFLARE.logGbMonths, units: (logGb * ASSUMED.log.keptDays) / ASSUMED.daysAMonth },
  ];
}

export const monthly = (decisionsPerDay: number) => decisionsPerDay * ASSUMED.daysAMonth;

/** Cloudflare's bill of a month. */
export function cloudflareBill(usage: Usage, load: Load): number {
  const items = itemsOf(usage, monthly(load.decisionsPerDay), load);
  return CLOUDFLARE.plan.usd + items.reduce((usd, { price, units }) => usd + costOf(price, units), 0);
}

/** What a million decisions more cost on Cloudflare, once all that is included is used up. */
export function cloudflareMillion(usage: Usage, load: Pick<Load, "logged" | "shards">): number {
  return itemsOf(usage, 1_000_000, load).reduce((usd, { price, units }) => usd + costOfMore(price, units), 0);
}

/** What a Redis in our place holds at its fullest. */
function redisGb(usage: Usage, load: Load): number {
  const { eventKb, keptHours } = ASSUMED.redis;
  return (peakPerSecond(load) * usage.redisWrites * 2 * keptHours * 3_600 * eventKb) / 1_000_000;
}

const redisTrafficGb = (usage: Usage, load: Load) =>
  (monthly(load.decisionsPerDay) * usage.asked * ASSUMED.redis.trafficKb) / 1_000_000;

export function upstashPayAsYouGo(usage: Usage, load: Load): number {
  const { gb, commandsPerSecond } = UPSTASH_PAY_AS_YOU_GO;
  const databases = databasesNeeded(usage, load, { gb, commandsPerSecond, bandwidthGb: Infinity });
  return (
    costOf(UPSTASH.commands, monthly(load.decisionsPerDay) * usage.commands) +
    costOf(UPSTASH.bandwidthGb, redisTrafficGb(usage, load)) +
    costOf(UPSTASH.storedGb, redisGb(usage, load)) +
    databases * UPSTASH.replicas.usd
  );
}

/** How many databases hold the data, the traffic and the busiest second. */
function databasesNeeded(usage: Usage, load: Load, most: Omit<FixedPlan, "name" | "usd">): number {
  return Math.max(
    1,
    Math.ceil((peakPerSecond(load) * usage.commands) / most.commandsPerSecond),
    Math.ceil(redisGb(usage, load) / most.gb),
    Math.ceil(redisTrafficGb(usage, load) / most.bandwidthGb),
  );
}

interface Databases {
  readonly plan: FixedPlan;
  readonly count: number;
  readonly usd: number;
}

/** The cheapest choice of equal databases of a fixed plan. */
export function upstashFixed(usage: Usage, load: Load): Databases {
  const choices = UPSTASH_PLANS.map((plan): Databases => {
    const count = databasesNeeded(usage, load, plan);
    return { plan, count, usd: count * (plan.usd + UPSTASH.replicas.usd) };
  });
  return choices.reduce((best, choice) => (choice.usd < best.usd ? choice : best));
}

interface Cluster {
  readonly shards: number;
  readonly usd: number;
}

/** Shards of a primary and a replica each, every write in a log of two zones before it is answered. */
export function valkeyCluster(usage: Usage, load: Load): Cluster {
  const { decisionsPerSecond, nodesAShard, usableGbAShard, writtenKb } = ASSUMED.redis;
  const shards = Math.max(
    1,
    Math.ceil((peakPerSecond(load) * usage.asked) / decisionsPerSecond),
    Math.ceil(redisGb(usage, load) / usableGbAShard),
  );
  const hours = shards * nodesAShard * ASSUMED.daysAMonth * 24;
  const writtenGb = (monthly(load.decisionsPerDay) * usage.redisWrites * writtenKb) / 1_000_000;
  return { shards, usd: costOf(VALKEY.nodeHours, hours) + costOf(VALKEY.writtenGb, writtenGb) };
}
