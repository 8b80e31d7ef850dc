import type { KeyOverride } from "../../src/core/override";
import { GroupCommit } from "../../src/object/group-commit";
import type { Call, CallResult, Method, OverrideToSet } from "../../src/object/protocol";
import { SWEEP_REST_MS } from "../../src/object/sweep-alarm";
import type { ObjectNamespace, ObjectStub } from "../../src/objects/binding";
import type { Chance } from "../../tools/chance";
import type { Scheduler } from "../../tools/scheduler";
import { DISK_FULL } from "./disk";
import { attemptNameOf, type DecidedCall, type Execution, type ForgottenKey, type OverrideChange } from "./record";
import { compareWithReopened } from "./reopened";
import { SimulatedObject } from "./simulated-object";
import { CLOCK_MARGIN_MS, type Machine } from "./system";

export const LONGEST_DELAY_MS = 3_000;

/** How often each fault happens, from 0 to 1. */
export interface Faults {
  readonly lost: number;
  readonly repeated: number;
  readonly slow: number;
  readonly crash: number;
  readonly diskFull: number;
  readonly overloaded: number;
  readonly clockJump: number;
  /** The share of a hub's batches during which it dies. */
  readonly hubDeath: number;
}

export const NO_FAULTS: Faults = {
  lost: 0,
  repeated: 0,
  slow: 0,
  crash: 0,
  diskFull: 0,
  overloaded: 0,
  clockJump: 0,
  hubDeath: 0,
};

type OverrideResult = { readonly stored: KeyOverride | undefined } | { readonly error: string };

/**
 * The network between the isolates and the objects. It delays, reorders, loses and repeats calls and answers, crashes
 * objects in the middle of a call, and records what they execute.
 */
export class Network implements ObjectNamespace {
  readonly objects = new Map<string, SimulatedObject>();
  readonly executions: Execution[] = [];
  /** In the order in which objects made them, as the executions are. */
  readonly overrideChanges: OverrideChange[] = [];
  readonly forgottenKeys: ForgottenKey[] = [];
  /** Errors of objects that no full disk explains, each once. */
  readonly failures = new Set<string>();
  /** Results of objects that differ from those of the same objects read back from storage. */
  readonly differences: string[] = [];
  /** How often a call was repeated although its object had said that it is overloaded. */
  retriesAfterOverload = 0;
  /** The questions that overloaded objects refused, and by which methods they were asked. */
  readonly #refused = new WeakMap<object, Set<Method>>();

  constructor(
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    public faults: Faults,
    readonly machine: Machine,
  ) {}

  getByName(name: string): ObjectStub {
    const object = this.#object(name);
    const changeOverride = async (key: string, override?: OverrideToSet) => {
      const requested = override && asSent(override);
      const result = await this.#send(object, async () => this.#changeOverride(object, key, requested));
      if ("error" in result) throw new Error(result.error);
      return result.stored;
    };
    // The simulation inspects no keys.
    return {
      decide: (calls) => this.#decide(object, calls),
      forget: async (key) => {
        const failure = await this.#send(object, async () => this.#forget(object, key));
        if (failure) throw new Error(failure.error);
      },
      setOverride: (key, override) => changeOverride(key, override),
      liftOverride: (key) => changeOverride(key),
    } as ObjectStub;
  }

  #object(name: string): SimulatedObject {
    const existing = this.objects.get(name);
    if (existing) return existing;
    const isDiskFull = () => this.chance.is(this.faults.diskFull);
    const { skewMs } = this.machine;
    const offsetMs = skewMs > 0 ? this.chance.below(skewMs) - Math.floor(skewMs / 2) : 0;
    const newGroup = (object: SimulatedObject) => this.#newGroup(object);
    const soon = (work: () => void) => void this.scheduler.after(this.chance.below(3), work);
    const object = new SimulatedObject(name, isDiskFull, this.machine, offsetMs, newGroup, soon);
    this.objects.set(name, object);
    return object;
  }

  async #decide(object: SimulatedObject, calls: readonly Call[]): Promise<CallResult[]> {
    const work = () => object.group.add(asSent(calls));
    const results = await this.#send(object, work, calls);
    return results.map((result) => ("verdict" in result ? asSent(result) : result));
  }

  /** Sends a message. `work` is what the object does when it arrives, which may happen more than once. */
  #send<T>(object: SimulatedObject, work: () => Promise<T>, calls: readonly Call[] = []): Promise<T> {
    // A retry by the Worker carries the same question object. A retry by the caller carries a new one.
    const isRefused = ({ method, question }: Call) => this.#refused.get(question)?.has(method);
    if (calls.some(isRefused)) this.retriesAfterOverload++;
    const { faults, chance } = this;
    return new Promise((resolve, reject) => {
      if (chance.is(faults.overloaded)) {
        for (const { method, question } of calls)
          this.#refused.set(question, new Set(this.#refused.get(question)).add(method));
        this.#fail(object, reject, { overloaded: true, retryable: true });
        return;
      }
      const { incarnation } = object;
      const deliver = (answer: (result: T) => void, isCopy = false) =>
        this.scheduler.after(this.#delayMs(object), () => {
          // A connection ends when its object crashes, so a repeated message never reaches two incarnations.
          if (!isCopy || object.incarnation === incarnation) void this.#arrive(object, work, answer, reject);
        });
      if (chance.is(faults.repeated)) deliver(() => {}, true);
      if (chance.is(faults.lost)) this.#fail(object, reject, { retryable: true });
      else deliver(resolve);
    });
  }

  async #arrive<T>(
    object: SimulatedObject,
    work: () => Promise<T>,
    answer: (result: T) => void,
    reject: (error: unknown) => void,
  ): Promise<void> {
    const { faults, chance, scheduler } = this;
    const { incarnation } = object;
    if (chance.is(faults.crash)) {
      this.#noteFault(object);
      scheduler.after(chance.below(3), () => object.crash());
    }
    if (chance.is(this.machine.sweepShare)) this.#sweep(object);
    const result = await work();
    // The output gate: answers leave when the writes are durable. A crash before that loses both.
    scheduler.after(chance.below(3), () => {
      const hasCrashed = object.incarnation !== incarnation;
      if (!hasCrashed) object.commit();
      if (!hasCrashed) for (const record of object.uncommitted.splice(0)) record.isCommitted = true;
      if (hasCrashed || chance.is(faults.lost)) return this.#fail(object, reject, { retryable: true });
      scheduler.after(this.#delayMs(object), () => answer(result));
    });
  }

  #fail(object: SimulatedObject, reject: (error: Error) => void, properties: object): void {
    this.#noteFault(object);
    this.scheduler.after(this.#delayMs(object), () => reject(Object.assign(new Error("simulated"), properties)));
  }

  /** Calls that are in flight now, or are sent soon, may have to wait for the object. */
  #noteFault(object: SimulatedObject): void {
    object.faultsAtMs.push(this.scheduler.nowMs);
  }

  /** Calls that arrive in one incarnation are decided together when the timer of their group is due. */
  #newGroup(object: SimulatedObject): GroupCommit {
    const { incarnation } = object;
    return new GroupCommit(
      (calls) => {
        if (object.incarnation !== incarnation) return calls.map(() => ({ error: "simulated" }));
        return this.#execute(object, calls);
      },
      (work) => this.scheduler.after(this.chance.below(3), work),
    );
  }

  #execute(object: SimulatedObject, calls: readonly Call[]): CallResult[] {
    const wallMs = this.#wallMs(object);
    const decide = () => object.ledger.decide(calls, wallMs);
    const isCompared = this.chance.is(this.machine.reopenShare);
    const { results, difference } = isCompared
      ? compareWithReopened(object, calls, wallMs, this.machine, decide)
      : { results: decide(), difference: undefined };
    if (difference) this.differences.push(difference);
    for (const result of results) if ("verdict" in result) object.usedMs = Math.max(object.usedMs, result.verdict.atMs);
    for (const [i, call] of calls.entries()) this.#record(object, wallMs, call, results[i] as CallResult);
    object.alarm.setFor(calls, results, wallMs);
    object.healAlarm(wallMs);
    return results;
  }

  /** Sets a key's override, or lifts it, at once and in a turn of its own. */
  #changeOverride(object: SimulatedObject, key: string, requested: OverrideToSet | undefined): OverrideResult {
    const wallMs = this.#wallMs(object);
    let stored: KeyOverride | undefined;
    try {
      if (requested) stored = object.ledger.setOverride(key, requested, wallMs);
      else object.ledger.liftOverride(key, wallMs);
    } catch (error) {
      return this.#failure(object, error);
    }
    object.usedMs = Math.max(object.usedMs, wallMs);
    if (requested) object.alarm.setSoon(wallMs + SWEEP_REST_MS, wallMs);
    else if (!object.deleteIfEmpty()) object.healAlarm(wallMs);
    const executionsBefore = this.executions.length;
    const change = { object: object.name, key, wallMs, requested, stored, executionsBefore, isCommitted: false };
    this.overrideChanges.push(change);
    object.uncommitted.push(change);
    return { stored };
  }

  /** Forgets a key. Returns an error if the disk is full. */
  #forget(object: SimulatedObject, key: string): { error: string } | undefined {
    try {
      object.ledger.forget(key);
    } catch (error) {
      return this.#failure(object, error);
    }
    if (!object.deleteIfEmpty()) object.healAlarm(this.#wallMs(object));
    const forgotten = { object: object.name, key, executionsBefore: this.executions.length, isCommitted: false };
    this.forgottenKeys.push(forgotten);
    object.uncommitted.push(forgotten);
    return undefined;
  }

  /** A full disk is a fault of the history. Any other error is a failure of the object. */
  #failure(object: SimulatedObject, thrown: unknown): { error: string } {
    const error = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    this.#noteFault(object);
    if (!error.includes(DISK_FULL)) this.failures.add(`${object.name} failed: ${error}`);
    return { error };
  }

  #record(object: SimulatedObject, wallMs: number, call: Call, result: CallResult): void {
    if ("error" in result) return void this.#failure(object, result.error);
    const decided = { ...call, verdict: result.verdict } as DecidedCall;
    const isOfEndedAttempt = object.endedAttempts.has(attemptNameOf(call) ?? "");
    const execution = { object: object.name, wallMs, call: decided, isOfEndedAttempt, isCommitted: false };
    this.executions.push(execution);
    object.uncommitted.push(execution);
    if (call.method === "rollBack" || (call.method === "consume" && !result.verdict.allowed))
      object.endedAttempts.add(attemptNameOf(call) ?? "");
  }

  /** The object's alarm: deletes what has expired. */
  #sweep(object: SimulatedObject): void {
    const wallMs = this.#wallMs(object);
    object.sweptMs = object.latestMs - CLOCK_MARGIN_MS;
    object.usedMs = Math.max(object.usedMs, wallMs);
    object.alarm.beginSweep();
    object.alarmAtMs = null;
    try {
      for (const _ of object.ledger.sweep(wallMs));
    } catch (error) {
      this.#failure(object, error);
    } finally {
      if (!object.deleteIfEmpty()) void object.alarm.endSweep(wallMs + SWEEP_REST_MS, wallMs);
    }
  }

  /**
   * The time on the object's clock, which may just have jumped. It never jumps back further than the margin behind a
   * sweep: the sweep has deleted events that would count again then.
   */
  #wallMs(object: SimulatedObject): number {
    const { faults, chance } = this;
    if (chance.is(faults.clockJump)) object.moveClock(chance.below(8_000) - 4_000);
    const wallMs = Math.max(object.sweptMs, this.#tick(this.scheduler.nowMs + object.clockOffsetMs));
    object.latestMs = Math.max(object.latestMs, wallMs);
    return wallMs;
  }

  #tick(ms: number): number {
    return ms - (ms % this.machine.tickMs);
  }

  #delayMs(object: SimulatedObject): number {
    if (!this.chance.is(this.faults.slow)) return 1 + this.chance.below(20);
    this.#noteFault(object);
    return this.chance.below(LONGEST_DELAY_MS);
  }
}

/** The value as it arrives on the other side: a copy, so that Worker and object share nothing. */
function asSent<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
