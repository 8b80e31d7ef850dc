import type { Config } from "../../src/config/config";
import { readInlineKey } from "../../src/request/inline";
import { readOverrideRequest } from "../../src/request/override-request";
import { Refusal } from "../../src/request/refusal";
import type { Chance } from "../../tools/chance";
import type { KeyOrder } from "./admissions";
import type { Range } from "./callers";
import type { Network } from "./network";
import type { ToldForgetting, ToldOrder } from "./orders";
import type { Scheduler } from "./scheduler";
import type { Isolate } from "./system";

/** Lower ones and higher, narrower and wider, some wider than any of the policies, and one on what is under way. */
const OTHER_LIMITS = [
  ["1 per 2 seconds"],
  ["12 per 2 seconds", "30 per 20 seconds"],
  ["3 per second", "8 per 25 seconds"],
  ["2 concurrent per 20 seconds", "9 per 5 seconds"],
];
const KEYS = ["user:u0", "user:u1", "ip:10.0.0.0", "ip:10.0.0.1"];
const INLINE_KEYS = ["k0", "k1"].map(readInlineKey);

/** What admins do. */
export interface Duties {
  /** How many there are, and how many orders each gives. */
  readonly admins: number;
  readonly orders: Range;
  /** The keys that they set overrides of. */
  readonly keys: readonly string[];
  /** The limits that they set, each for a layer. */
  readonly limits: readonly (readonly string[])[];
  /** The share of those who do nothing but set limits of one key, lift them, and set them again. */
  readonly stubborn: number;
  /** The share of orders that have a key forgotten, from 0 to 1. */
  readonly forgets: number;
  /** How long they rest between orders, at most. */
  readonly restMs: number;
}

export const USUAL_DUTIES: Duties = {
  admins: 0,
  orders: [1, 5],
  keys: KEYS,
  limits: OTHER_LIMITS,
  stubborn: 0,
  forgets: 0,
  restMs: 6_000,
};

/** Admins, each of whom bans and exempts keys, gives them other limits, lifts all that, and has keys forgotten. */
export class Admins {
  readonly told: ToldOrder[] = [];
  readonly toldForgettings: ToldForgetting[] = [];
  readonly orders: KeyOrder[] = [];
  #number = 0;

  constructor(
    private readonly config: Config,
    private readonly isolates: readonly Isolate[],
    private readonly network: Network,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    private readonly duties: Duties,
  ) {}

  async run(orders: number): Promise<void> {
    const { chance, scheduler, duties } = this;
    const own = chance.is(duties.stubborn) ? this.#lastingLimits(chance.of(duties.keys)) : undefined;
    for (let order = 0; order < orders; order++) {
      await scheduler.sleep(chance.below(own || chance.is(0.2) ? duties.restMs : 800));
      const isForgetting = chance.is(duties.forgets);
      const key = own?.key ?? chance.of(isForgetting ? [...KEYS, ...INLINE_KEYS] : duties.keys);
      const isLifting = own ? order % 2 === 1 || chance.is(0.1) : chance.is(0.25);
      const body = isLifting ? undefined : (own?.body ?? this.#override(key));
      // Not every admin who hears nothing tries again.
      for (let tries = 0; tries < 3; tries++)
        if ((await (isForgetting ? this.#forget(key) : this.#order(key, body))) || chance.is(0.5)) break;
    }
  }

  /** True if the admin knows that it is done. */
  async #order(key: string, body: object | undefined): Promise<boolean> {
    const { network, scheduler, config } = this;
    const { keys, number: isolate } = this.chance.of(this.isolates);
    const [askedAtMs, before] = [scheduler.nowMs, network.orders.length];
    const what = body ? "override" : "lift";
    try {
      const asked = body && readOverrideRequest(body, key, config, scheduler.nowMs);
      const told = await orUndefined(async () => {
        return asked ? (await keys.setOverride(key, asked)).override : void (await keys.liftOverride(key));
      });
      const [toldAtMs, after, deedsBefore] = [scheduler.nowMs, network.orders.length, network.deeds.length];
      const span = { askedAtMs, endedAtMs: toldAtMs };
      const endsAtMs = told?.done ? Date.parse(told.done.expires_at) : undefined;
      this.orders.push({ key, what, override: asked, endsAtMs, ...span, isTold: told !== undefined });
      if (!told) return false;
      const order = { isolate, key, asked, told: told.done ?? undefined };
      this.told.push({ ...order, askedAtMs, toldAtMs, before, after, deedsBefore });
      return true;
    } catch (error) {
      // One that ends at an instant may be sent again when that has passed.
      if (error instanceof Refusal && error.kind === "invalid") return false;
      throw error;
    }
  }

  async #forget(key: string): Promise<boolean> {
    const { scheduler } = this;
    const { keys, number: isolate } = this.chance.of(this.isolates);
    const askedAtMs = scheduler.nowMs;
    const isTold = (await orUndefined(() => keys.forget(key))) !== undefined;
    const endedAtMs = scheduler.nowMs;
    this.orders.push({ key, what: "forget", askedAtMs, endedAtMs, isTold });
    if (isTold) this.toldForgettings.push({ isolate, key, askedAtMs, toldAtMs: endedAtMs });
    return isTold;
  }

  /** As it is sent: each is for a reason of its own, by which it can be told from others. */
  #override(key: string): object {
    const { chance } = this;
    const kind = chance.of(["ban", "exempt", "limits"]);
    if (kind === "limits") return this.#limits(key).body;
    return { kind, reason: `order ${this.#number++}`, ...this.#ends() };
  }

  #lastingLimits(key: string): { key: string; body: object } {
    return this.#limits(key, { expires_in_seconds: 30 + this.chance.below(60) });
  }

  #limits(key: string, ends: object = this.#ends()): { key: string; body: object } {
    const { chance, duties } = this;
    const counted = key.startsWith("ip:") ? chance.of([["caller"], ["ip"], ["caller", "ip"]]) : ["caller"];
    const limits = counted.map((layer) => ({ policy: "small", layer, limits: chance.of(duties.limits) }));
    return { key, body: { kind: "limits", reason: `order ${this.#number++}`, ...ends, limits } };
  }

  #ends(): object {
    const { chance, scheduler } = this;
    const seconds = 1 + chance.below(chance.of([4, 20, 40, 90]));
    const at = new Date(scheduler.nowMs + seconds * 1_000 - chance.below(1_000)).toISOString();
    return chance.is(0.5) ? { expires_in_seconds: seconds } : { expires_at: at };
  }
}

/** What was done; undefined where nobody was told whether it was. */
async function orUndefined<T>(order: () => Promise<T>): Promise<{ done: T } | undefined> {
  try {
    return { done: await order() };
  } catch (error) {
    if (error instanceof Refusal && error.kind === "unreachable") return undefined;
    throw error;
  }
}
