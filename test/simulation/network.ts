import type { KeyOverride } from "../../src/core/override";
import { GroupCommit } from "../../src/object/group-commit";
import type { Ledger } from "../../src/object/ledger";
import type { Call, CallResult, Method, OverrideToSet } from "../../src/object/protocol";
import type { ObjectNamespace, ObjectStub } from "../../src/objects/binding";
import type { Chance } from "../../tools/chance";
import { DISK_FULL, type ObjectDisk, type WokenStore } from "./disk";
import { attemptOf, type Deed, type Done, type Forgetting, type Order } from "./record";
import { differenceIn } from "./reopened";
import type { Scheduler } from "./scheduler";
import { CLOCK_MARGIN_MS, type Machine, newDisk, newLedger } from "./system";

export const LONGEST_DELAY_MS = 3_000;

/** How often things go wrong, each from 0 to 1. */
export interface Faults {
  readonly lost: number;
  readonly repeated: number;
  readonly slow: number;
  readonly crash: number;
  readonly diskFull: number;
  readonly overloaded: number;
  readonly clockJump: number;
}

export const NO_FAULTS: Faults = {
  lost: 0,
  repeated: 0,
  slow: 0,
  crash: 0,
  diskFull: 0,
  overloaded: 0,
  clockJump: 0,
};

/** An object: its ledger in memory, its disk, and a clock of its own that need not be right. */
export class SimulatedObject {
  readonly disk: ObjectDisk;
  store: WokenStore;
  ledger: Ledger;
  group: GroupCommit;
  /** The least and the most that its clock has ever been ahead of the true time. */
  readonly offsetsMs: [least: number, most: number];
  /** The latest time that its clock has ever shown. */
  latestMs = 0;
  /** And until the last sweep. */
  sweptMs = 0;
  /** The latest time that it is known to have used since it was opened. */
  usedMs = 0;
  uncommitted: { committed: boolean }[] = [];
  /** Goes up with every crash: what was under way before it gets no answer. */
  life = 0;
  /** The attempts that it has denied or rolled back in this life: their calls charge nothing more. */
  readonly ended = new Set<string>();
  /** When calls to it were slow, lost or failed. */
  readonly disturbedMs: number[] = [];

  constructor(
    readonly name: string,
    isDiskFull: () => boolean,
    private readonly machine: Machine,
    public clockOffsetMs: number,
    private readonly newGroup: (object: SimulatedObject) => GroupCommit,
  ) {
    this.offsetsMs = [clockOffsetMs, clockOffsetMs];
    this.disk = newDisk(machine, isDiskFull);
    this.store = this.disk.open();
    this.ledger = newLedger(this.store, machine);
    this.group = newGroup(this);
  }

  /** How far its clock has ever been from the true time. */
  get furthestOffsetMs(): number {
    return Math.max(...this.offsetsMs.map(Math.abs));
  }

  /** Puts its clock forward, or back. */
  moveClock(byMs: number): void {
    this.clockOffsetMs += byMs;
    const [least, most] = this.offsetsMs;
    this.offsetsMs[0] = Math.min(least, this.clockOffsetMs);
    this.offsetsMs[1] = Math.max(most, this.clockOffsetMs);
  }

  crash(): void {
    this.life++;
    this.disk.crash();
    this.store = this.disk.open();
    this.ledger = newLedger(this.store, this.machine);
    this.group = this.newGroup(this);
    this.usedMs = 0;
    this.ended.clear();
    this.uncommitted = [];
  }

  /** An object of which nothing is stored occupies nothing. */
  emptied(): void {
    if (this.store.isEmpty) void this.store.deleteAll();
  }
}

/** What became of an order. */
type Ordered = { readonly set: KeyOverride | undefined } | { readonly error: string };

/** Between edge and objects: delays, reorders, loses and repeats calls and answers, and crashes objects in the middle. */
export class Network implements ObjectNamespace {
  readonly objects = new Map<string, SimulatedObject>();
  readonly deeds: Deed[] = [];
  /** What objects were ordered about overrides, and did: in its order too. */
  readonly orders: Order[] = [];
  /** The keys that objects were made to forget, likewise. */
  readonly forgettings: Forgetting[] = [];
  /** What objects failed with that was no fault of their disks, each once. */
  readonly failures = new Set<string>();
  /** What objects decided otherwise than they would have if they had just been opened. */
  readonly differences: string[] = [];
  /** Questions that were refused by an object that had too much to do, and by which methods. */
  readonly #overloaded = new WeakMap<object, Set<Method>>();
  /** Calls that were repeated although their object had said that it is overloaded. */
  pushed = 0;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    public faults: Faults,
    readonly machine: Machine,
  ) {}

  getByName(name: string): ObjectStub {
    const object = this.#object(name);
    const ordered = async (key: string, override?: OverrideToSet) => {
      // As it would be sent.
      const asked = override && (JSON.parse(JSON.stringify(override)) as OverrideToSet);
      const done = await this.#send(object, async () => this.#order(object, key, asked));
      if ("error" in done) throw new Error(done.error);
      return done.set;
    };
    // Keys are not inspected here.
    return {
      decide: (calls) => this.#decided(object, calls),
      forget: async (key) => {
        const done = await this.#send(object, async () => this.#forget(object, key));
        if (done) throw new Error(done.error);
      },
      setOverride: (key, override) => ordered(key, override),
      liftOverride: (key) => ordered(key),
    } as ObjectStub;
  }

  #object(name: string): SimulatedObject {
    const known = this.objects.get(name);
    if (known) return known;
    const isDiskFull = () => this.chance.is(this.faults.diskFull);
    const { skewMs } = this.machine;
    const offsetMs = skewMs > 0 ? this.chance.below(skewMs) - Math.floor(skewMs / 2) : 0;
    const newGroup = (object: SimulatedObject) => this.#newGroup(object);
    const object = new SimulatedObject(name, isDiskFull, this.machine, offsetMs, newGroup);
    this.objects.set(name, object);
    return object;
  }

  #decided(object: SimulatedObject, calls: readonly Call[]): Promise<CallResult[]> {
    // As they would be sent: the object shares nothing with the edge.
    const work = () => object.group.add(JSON.parse(JSON.stringify(calls)) as Call[]);
    return this.#send(object, work, calls).then((results) => results.map(sent));
  }

  /** `work` is what the object does when this arrives, which may be more than once. */
  #send<T>(object: SimulatedObject, work: () => Promise<T>, calls: readonly Call[] = []): Promise<T> {
    // The edge sends the same question again when it tries again, and another when its caller does.
    const refused = ({ method, question }: Call) => this.#overloaded.get(question)?.has(method);
    if (calls.some(refused)) this.pushed++;
    const { faults, chance } = this;
    return new Promise((resolve, reject) => {
      if (chance.is(faults.overloaded)) {
        for (const { method, question } of calls)
          this.#overloaded.set(question, new Set(this.#overloaded.get(question)).add(method));
        this.#fail(object, reject, { overloaded: true, retryable: true });
        return;
      }
      const { life } = object;
      const deliver = (answer: (done: T) => void, isCopy = false) =>
        this.scheduler.after(this.#delayMs(object), () => {
          // A connection ends with the life of its object: what is sent once does not arrive in two of them.
          if (!isCopy || object.life === life) void this.#arrive(object, work, answer, reject);
        });
      if (chance.is(faults.repeated)) deliver(() => {}, true);
      if (chance.is(faults.lost)) this.#fail(object, reject, { retryable: true });
      else deliver(resolve);
    });
  }

  async #arrive<T>(
    object: SimulatedObject,
    work: () => Promise<T>,
    answer: (done: T) => void,
    reject: (error: unknown) => void,
  ): Promise<void> {
    const { faults, chance, scheduler } = this;
    const { life } = object;
    if (chance.is(faults.crash)) {
      this.#disturb(object);
      scheduler.after(chance.below(3), () => object.crash());
    }
    if (chance.is(this.machine.sweeps)) this.#sweep(object);
    const done = await work();
    // The output gate: answers leave when what was written is durable. A crash before that loses both.
    scheduler.after(chance.below(3), () => {
      const hasCrashed = object.life !== life;
      if (!hasCrashed) object.disk.commit();
      if (!hasCrashed) for (const deed of object.uncommitted.splice(0)) deed.committed = true;
      if (hasCrashed || chance.is(faults.lost)) return this.#fail(object, reject, { retryable: true });
      scheduler.after(this.#delayMs(object), () => answer(done));
    });
  }

  #fail(object: SimulatedObject, reject: (error: Error) => void, properties: object): void {
    this.#disturb(object);
    this.scheduler.after(this.#delayMs(object), () => reject(Object.assign(new Error("simulated"), properties)));
  }

  /** Whoever asks it now, or has asked it, may have to wait. */
  #disturb(object: SimulatedObject): void {
    object.disturbedMs.push(this.scheduler.nowMs);
  }

  /** What arrives at an object, in one of its lives, is decided together when the timer of the group is due. */
  #newGroup(object: SimulatedObject): GroupCommit {
    const { life } = object;
    return new GroupCommit(
      (calls) => {
        if (object.life !== life) return calls.map(() => ({ error: "simulated" }));
        return this.#decide(object, calls);
      },
      (work) => this.scheduler.after(this.chance.below(3), work),
    );
  }

  #decide(object: SimulatedObject, calls: readonly Call[]): CallResult[] {
    const wallMs = this.#wallMs(object);
    const decide = () => object.ledger.decide(calls, wallMs);
    const isCompared = this.chance.is(this.machine.reopenings);
    const { results, difference } = isCompared
      ? differenceIn(object, calls, wallMs, this.machine, decide)
      : { results: decide(), difference: undefined };
    if (difference) this.differences.push(difference);
    for (const result of results) if ("verdict" in result) object.usedMs = Math.max(object.usedMs, result.verdict.atMs);
    for (const [i, call] of calls.entries()) this.#note(object, wallMs, call, results[i] as CallResult);
    return results;
  }

  /** Sets a key's override, or lifts it; it does so at once, in a turn of its own. */
  #order(object: SimulatedObject, key: string, asked: OverrideToSet | undefined): Ordered {
    const wallMs = this.#wallMs(object);
    let set: KeyOverride | undefined;
    try {
      if (asked) set = object.ledger.setOverride(key, asked, wallMs);
      else object.ledger.liftOverride(key, wallMs);
    } catch (error) {
      return this.#failed(object, error);
    }
    object.usedMs = Math.max(object.usedMs, wallMs);
    if (!asked) object.emptied();
    const order = { object: object.name, key, wallMs, asked, set, at: this.deeds.length, committed: false };
    this.orders.push(order);
    object.uncommitted.push(order);
    return { set };
  }

  /** What was admitted for a key, or an error. */
  #forget(object: SimulatedObject, key: string): { error: string } | undefined {
    try {
      object.ledger.forget(key);
    } catch (error) {
      return this.#failed(object, error);
    }
    object.emptied();
    const forgetting = { object: object.name, key, at: this.deeds.length, committed: false };
    this.forgettings.push(forgetting);
    object.uncommitted.push(forgetting);
    return undefined;
  }

  /** A full disk is a fault of the history's own, anything else is one of the object. */
  #failed(object: SimulatedObject, thrown: unknown): { error: string } {
    const error = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    this.#disturb(object);
    if (!error.includes(DISK_FULL)) this.failures.add(`${object.name} failed: ${error}`);
    return { error };
  }

  #note(object: SimulatedObject, wallMs: number, call: Call, result: CallResult): void {
    if ("error" in result) return void this.#failed(object, result.error);
    const what = { ...call, verdict: result.verdict } as Done;
    const isEnded = object.ended.has(attemptOf(call) ?? "");
    const deed = { object: object.name, wallMs, what, isEnded, committed: false };
    this.deeds.push(deed);
    object.uncommitted.push(deed);
    if (call.method === "rollBack" || (call.method === "consume" && !result.verdict.allowed))
      object.ended.add(attemptOf(call) ?? "");
  }

  /** Its alarm: what has expired is deleted. */
  #sweep(object: SimulatedObject): void {
    const wallMs = this.#wallMs(object);
    object.sweptMs = object.latestMs - CLOCK_MARGIN_MS;
    object.usedMs = Math.max(object.usedMs, wallMs);
    try {
      for (const _ of object.ledger.sweep(wallMs));
    } catch (error) {
      this.#failed(object, error);
    } finally {
      object.emptied();
    }
  }

  /**
   * The time on the object's clock, which may just have been put forward or back: not back by more than the margin behind
   * a sweep, which has deleted what would count again then.
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
    this.#disturb(object);
    return this.chance.below(LONGEST_DELAY_MS);
  }
}

function sent(result: CallResult): CallResult {
  return "verdict" in result ? { verdict: JSON.parse(JSON.stringify(result.verdict)) } : result;
}
