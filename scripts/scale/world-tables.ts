import { table } from "../../tools/document";
import { ASSUMED, sum } from "./bill";
import { CLOUDFLARE, costOfMore, MILLION, type Price } from "./prices";
import { rowsADecision } from "./rows";
import { type Load, type Outcome, simulate } from "./world";

const { world } = ASSUMED;

/** What decisions are about, and how they come to the objects. */
interface Way {
  readonly name: string;
  /** Hubs of a region. 0: HTTP. */
  readonly hubs: number;
  /** How often each key asks. One key asks for everything. */
  readonly everySeconds?: number;
  /** Shards that all keys share. Without, each key has an object. */
  readonly shards?: number;
}

const WAYS: Way[] = [
  { name: "one key, HTTP", hubs: 0 },
  { name: "one key, sessions", hubs: 1 },
  { name: "keys once a minute, HTTP", hubs: 0, everySeconds: 60 },
  { name: "keys once a minute, sessions", hubs: 1, everySeconds: 60 },
  {
    name: `keys once a minute, sessions, \`shards:${world.shards}\``,
    hubs: 1,
    everySeconds: 60,
    shards: world.shards,
  },
  { name: `keys once a second, sessions, \`shards:${world.shards}\``, hubs: 1, everySeconds: 1, shards: world.shards },
];

/** More decisions than the object can take. */
const FULL = "full";

/** A turn that has fewer decisions on average shares next to nothing: each decision writes a row. */
const LEAST_SHARED = 1.25;

/** Simulates each load once: both tables show some. */
export class WorldTables {
  readonly #outcomes = new Map<string, Promise<Outcome>>();

  /** One key that the whole world asks for. */
  async oneKey(): Promise<string> {
    const rows: string[][] = [];
    for (const [way, hubs, rates] of [
      ["sessions, 1 hub a region", 1, [100, 1_000, 10_000]],
      ["sessions, 4 hubs a region", 4, [100, 1_000, 10_000]],
      ["HTTP", 0, [100, 1_000]],
    ] as const)
      for (const perSecond of rates) {
        const outcome = await this.#outcomeOf({ perSecond, hubs, objects: 1 });
        const { seconds, decided, p50Ms, p99Ms, calls, turns } = outcome;
        const cells = [decided / seconds, p50Ms, p99Ms, calls / seconds].map(whole);
        rows.push([way, whole(perSecond), ...cells, (sum(turns) / calls).toFixed(1)]);
      }
    const head = ["one key", "asked/s", "decided/s", "p50 ms", "p99 ms", "object calls/s"];
    return table([...head, "decisions a call"], rows, "left");
  }

  /** What a million decisions write, call and cost, at a number of decisions a second. */
  async million(): Promise<string> {
    const rates = [10, 100, 1_000, 10_000];
    const rows: string[][] = [];
    for (const way of WAYS) {
      const cells: string[] = [];
      for (const perSecond of rates) cells.push(cells.at(-1) === FULL ? FULL : await this.#millionAt(perSecond, way));
      rows.push([way.name, ...cells]);
    }
    return table(
      ["rows / calls of a decision / $ a million", ...rates.map((rate) => `${whole(rate)}/s`)],
      rows,
      "left",
    );
  }

  async #millionAt(perSecond: number, { hubs, everySeconds, shards }: Way): Promise<string> {
    const keys = everySeconds === undefined ? 1 : perSecond * everySeconds;
    const objects = shards ?? keys;
    // Keys with objects of their own do not meet: they need not be simulated at the highest rate.
    const simulated = objects === keys && keys > 1 ? Math.min(perSecond, 1_000) : perSecond;
    const outcome = await this.#outcomeOf({ perSecond: simulated, hubs, objects });
    if (refusedShare(outcome) > 0.01) return FULL;
    const { calls, turns, activeMs } = outcome;
    const decisions = sum(turns);
    const everyMs = (1_000 * keys) / perSecond;
    const isShared = decisions > LEAST_SHARED * turns.length;
    const rows = isShared ? rowsADecision(turns, { count: keys / objects, everyMs, objects }) : 1;
    const each = { rows, calls: calls / decisions, activeMs: activeMs / decisions };
    const usd = millionBy(hubs > 0 ? "session" : "http", each);
    return [rows, each.calls, usd].map((value) => value.toFixed(2)).join(" / ");
  }

  #outcomeOf(load: Load): Promise<Outcome> {
    const name = JSON.stringify(load);
    const outcome = this.#outcomes.get(name) ?? simulate(load);
    this.#outcomes.set(name, outcome);
    return outcome;
  }
}

/**
 * The price of a million decisions, each with so many calls and rows, and so long an active time of objects and hubs. By
 * HTTP a decision is a Worker's request, by session a message to a hub.
 */
export function millionBy(
  transport: "http" | "session",
  each: { calls: number; rows: number; activeMs: number },
): number {
  const requests = transport === "http" ? 1 : 0;
  const messages = transport === "http" ? 0 : 1 / ASSUMED.world.messagesARequest;
  const counts: [Price, number][] = [
    [CLOUDFLARE.requests, requests],
    [CLOUDFLARE.cpuMs, requests * ASSUMED.cpuMs],
    [CLOUDFLARE.calls, each.calls + messages],
    [CLOUDFLARE.activeGbS, (each.activeMs / 1_000) * ASSUMED.objectGb],
    [CLOUDFLARE.rowsRead, each.calls * ASSUMED.rowsReadACall],
    [CLOUDFLARE.rowsWritten, each.rows],
  ];
  return sum(counts.map(([price, count]) => costOfMore(price, MILLION * count)));
}

const refusedShare = ({ decided, refused }: Outcome) => refused / (decided + refused);
/** Two significant digits: the estimates are no better. */
const whole = (count: number) => (Number.isNaN(count) ? "–" : Number(count.toPrecision(2)).toLocaleString("en"));
