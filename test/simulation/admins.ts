import type { Config } from "../../src/config/config";
import { readInlineKey } from "../../src/request/inline";
import { overrideBody, readOverrideRequest } from "../../src/request/override-request";
import { Refusal } from "../../src/request/refusal";
import type { Chance } from "../../tools/chance";
import type { Scheduler } from "../../tools/scheduler";
import type { AdminCall } from "./admissions";
import type { Range } from "./callers";
import type { Network } from "./network";
import type { AnsweredForget, AnsweredOverride } from "./overrides";
import type { Isolate } from "./system";

/** Lower and higher limits, shorter and longer windows, some longer than in any policy, and a concurrent limit. */
const OVERRIDING_LIMITS = [
  ["1 per 2 seconds"],
  ["12 per 2 seconds", "30 per 20 seconds"],
  ["3 per second", "8 per 25 seconds"],
  ["2 concurrent per 20 seconds", "9 per 5 seconds"],
];
const KEYS = ["user:u0", "user:u1", "ip:10.0.0.0", "ip:10.0.0.1"];
const INLINE_KEYS = ["k0", "k1"].map(readInlineKey);

/** How admins behave. Shares are from 0 to 1. */
export interface Duties {
  readonly admins: number;
  /** How many tasks an admin has: each sets or lifts an override, or has a key forgotten. */
  readonly tasks: Range;
  /** The keys whose overrides they set. */
  readonly keys: readonly string[];
  /** The limits that they set, each list for one layer. */
  readonly limits: readonly (readonly string[])[];
  /** The share of admins who only set and lift the limits of one key, over and over. */
  readonly stubbornShare: number;
  /** The share of tasks that have a key forgotten. */
  readonly forgetShare: number;
  /** How long an admin rests between tasks, at most. */
  readonly restMs: number;
}

export const USUAL_DUTIES: Duties = {
  admins: 0,
  tasks: [1, 5],
  keys: KEYS,
  limits: OVERRIDING_LIMITS,
  stubbornShare: 0,
  forgetShare: 0,
  restMs: 6_000,
};

/** Admins who ban and exempt keys, override their limits, lift all that, and have keys forgotten. */
export class Admins {
  readonly overrides: AnsweredOverride[] = [];
  readonly forgets: AnsweredForget[] = [];
  /** All calls, answered or not. */
  readonly calls: AdminCall[] = [];
  /** Gives each override a reason of its own, so that it can be told apart. */
  #reasons = 0;

  constructor(
    private readonly config: Config,
    private readonly isolates: readonly Isolate[],
    private readonly network: Network,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    private readonly duties: Duties,
  ) {}

  async run(tasks: number): Promise<void> {
    const { chance, scheduler, duties } = this;
    const only = chance.is(duties.stubbornShare) ? this.#lastingLimits(chance.of(duties.keys)) : undefined;
    for (let task = 0; task < tasks; task++) {
      await scheduler.sleep(chance.below(only || chance.is(0.2) ? duties.restMs : 800));
      const isForget = chance.is(duties.forgetShare);
      const key = only?.key ?? chance.of(isForget ? [...KEYS, ...INLINE_KEYS] : duties.keys);
      const isLift = only ? task % 2 === 1 || chance.is(0.1) : chance.is(0.25);
      const body = isLift ? undefined : (only?.body ?? this.#overrideBody(key));
      // Some admins give up when they get no answer, some retry.
      for (let tries = 0; tries < 3; tries++)
        if ((await (isForget ? this.#forget(key) : this.#override(key, body))) || chance.is(0.5)) break;
    }
  }

  /** Sets an override, or lifts it. Resolves with whether the admin knows that it is done. */
  async #override(key: string, body: object | undefined): Promise<boolean> {
    const { network, scheduler, config } = this;
    const { keys, number: isolate } = this.chance.of(this.isolates);
    const [sentAtMs, changesBefore] = [scheduler.nowMs, network.overrideChanges.length];
    const op = body ? "override" : "lift";
    try {
      const requested = body && readOverrideRequest(body, key, config, scheduler.nowMs);
      const acknowledged = await orUnreachable(async () => {
        return requested ? overrideBody(await keys.setOverride(key, requested)) : void (await keys.liftOverride(key));
      });
      const answeredAtMs = scheduler.nowMs;
      const [changesAfter, executionsBefore] = [network.overrideChanges.length, network.executions.length];
      const answered = acknowledged?.answer ?? undefined;
      this.calls.push({
        key,
        op,
        override: requested,
        endsAtMs: answered ? Date.parse(answered.expires_at) : undefined,
        sentAtMs,
        endedAtMs: answeredAtMs,
        isAcknowledged: acknowledged !== undefined,
      });
      if (!acknowledged) return false;
      const span = { sentAtMs, answeredAtMs, changesBefore, changesAfter, executionsBefore };
      this.overrides.push({ isolate, key, requested, answered, ...span });
      return true;
    } catch (error) {
      // A retry is refused when the instant at which the override ends has passed.
      if (error instanceof Refusal && error.kind === "invalid") return false;
      throw error;
    }
  }

  async #forget(key: string): Promise<boolean> {
    const { scheduler } = this;
    const { keys, number: isolate } = this.chance.of(this.isolates);
    const sentAtMs = scheduler.nowMs;
    const isAcknowledged = (await orUnreachable(() => keys.forget(key))) !== undefined;
    const endedAtMs = scheduler.nowMs;
    this.calls.push({ key, op: "forget", sentAtMs, endedAtMs, isAcknowledged });
    if (isAcknowledged) this.forgets.push({ isolate, key, sentAtMs, answeredAtMs: endedAtMs });
    return isAcknowledged;
  }

  #overrideBody(key: string): object {
    const { chance } = this;
    const kind = chance.of(["ban", "exempt", "limits"]);
    if (kind === "limits") return this.#limits(key).body;
    return { kind, reason: this.#newReason(), ...this.#ends() };
  }

  #lastingLimits(key: string): { key: string; body: object } {
    return this.#limits(key, { expires_in_seconds: 30 + this.chance.below(60) });
  }

  #limits(key: string, ends: object = this.#ends()): { key: string; body: object } {
    const { chance, duties } = this;
    const layers = key.startsWith("ip:") ? chance.of([["caller"], ["ip"], ["caller", "ip"]]) : ["caller"];
    const limits = layers.map((layer) => ({ policy: "small", layer, limits: chance.of(duties.limits) }));
    return { key, body: { kind: "limits", reason: this.#newReason(), ...ends, limits } };
  }

  #newReason(): string {
    return `order ${this.#reasons++}`;
  }

  #ends(): object {
    const { chance, scheduler } = this;
    const seconds = 1 + chance.below(chance.of([4, 20, 40, 90]));
    const at = new Date(scheduler.nowMs + seconds * 1_000 - chance.below(1_000)).toISOString();
    return chance.is(0.5) ? { expires_in_seconds: seconds } : { expires_at: at };
  }
}

/** The answer of a call; undefined if the admin is told that an object is unreachable. */
async function orUnreachable<T>(call: () => Promise<T>): Promise<{ answer: T } | undefined> {
  try {
    return { answer: await call() };
  } catch (error) {
    if (error instanceof Refusal && error.kind === "unreachable") return undefined;
    throw error;
  }
}
