import { table } from "../../tools/document";
import { ASSUMED, itemsOf, kindsOf, sum, TRAFFIC, type Usage } from "./bill";
import { CLOUDFLARE, costOfMore, MILLION, type Price } from "./prices";

/** How decisions come, and which objects hold their keys. */
export interface Way {
  readonly transport: "HTTP" | "session";
  /** How many shards all keys share. Without, each key has an object. */
  readonly shards?: number;
}

const WAYS: Way[] = (["HTTP", "session"] as const).flatMap((transport) => [
  { transport },
  { transport, shards: ASSUMED.world.shards },
]);

/**
 * What a million signed-in admissions of the policy `chat` cost in dollars, by what is paid for. Each is a request or a
 * message of its own, and shares no call with another: so it is the most that they cost.
 */
export function millionItems({ transport, shards }: Way) {
  const steady = kindsOf(Number.POSITIVE_INFINITY)["admitted, signed in"];
  const calls = shards === undefined ? steady.calls : steady.calls - 1 / shards;
  const usage: Usage = { ...steady, calls, commits: calls };
  const { near, commit } = ASSUMED.latency;
  const isOverHttp = transport === "HTTP";
  return {
    coming: isOverHttp
      ? costOf(usage, "requests", "cpuMs")
      : costOfMore(CLOUDFLARE.calls, MILLION / ASSUMED.world.messagesARequest),
    calls: costOf(usage, "calls"),
    rows: costOf(usage, "rowsWritten", "rowsRead"),
    firstTouch: firstTouch(shards),
    objects: costOf(usage, "activeGbS"),
    // A hub can't rest while it waits for the objects.
    hubs: isOverHttp ? 0 : duration(near.object + commit),
  };
}

/** The cost of keys that come and go, beside their decisions. */
function firstTouch(shards: number | undefined): number {
  const keys = kindsOf(TRAFFIC.perVisit)["admitted, signed in"].visits;
  // In a shard it is the row that deletes the key's page. The shard's table and alarm stay.
  if (shards !== undefined) return costOfMore(CLOUDFLARE.rowsWritten, MILLION * keys);
  const { rows, calls } = ASSUMED.visit;
  const millions: [Price, number][] = [
    [CLOUDFLARE.rowsWritten, rows],
    [CLOUDFLARE.calls, calls],
    [CLOUDFLARE.rowsRead, calls * ASSUMED.rowsReadACall],
  ];
  const alarms = keys * calls * duration(ASSUMED.activeMs.writing);
  return alarms + sum(millions.map(([price, count]) => costOfMore(price, MILLION * keys * count)));
}

/** The price of a million times so many milliseconds of an object. */
function duration(ms: number): number {
  return costOfMore(CLOUDFLARE.activeGbS, MILLION * (ms / 1_000) * ASSUMED.objectGb);
}

function costOf(usage: Usage, ...names: readonly (keyof typeof CLOUDFLARE)[]): number {
  const prices = names.map((name) => CLOUDFLARE[name]);
  const items = itemsOf(usage, MILLION, 0).filter(({ price }) => prices.includes(price));
  return sum(items.map(({ price, count }) => costOfMore(price, count)));
}

/** A million by each way, with its items. */
export function waysTable(): string {
  const rows = WAYS.map((way) => {
    const items = Object.values(millionItems(way));
    const placement = way.shards === undefined ? "key" : `shards:${way.shards}`;
    return [`${way.transport}, \`${placement}\``, ...items.map(cents), `**${cents(sum(items))}**`];
  });
  const items = ["requests or messages", "object calls", "rows", "first touch", "objects' time", "hubs' time"];
  return table(["$ a million, admitted, signed in", ...items, "all"], rows, "left");
}

/** Hubs and messages cost less than a cent. */
const cents = (usd: number) => `$${usd !== 0 && usd < 0.095 ? usd.toFixed(3) : usd.toFixed(2)}`;
