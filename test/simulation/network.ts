import type { ObjectNamespace, ObjectStub } from "../../src/edge/fan-out";
import { Ledger } from "../../src/object/ledger";
import type {
  Answer,
  Call,
  Charge,
  ChargeAnswer,
  EventQuestion,
  Method,
  Outcome,
  SettleAnswer,
} from "../../src/object/protocol";
import { Disk } from "./disk";
import type { Chance, Scheduler } from "./scheduler";

/** How often things go wrong, each from 0 to 1. */
export interface Faults {
  readonly lost: number;
  readonly repeated: number;
  readonly slow: number;
  readonly crash: number;
  readonly overloaded: number;
  readonly clockJump: number;
}

export const NO_FAULTS: Faults = { lost: 0, repeated: 0, slow: 0, crash: 0, overloaded: 0, clockJump: 0 };

/** An object: its ledger in memory, its disk, and a clock of its own that need not be right. */
export class SimulatedObject {
  readonly disk = new Disk();
  ledger = new Ledger(this.disk);
  clockOffsetMs = 0;
  /** How far its clock has ever been from the true time. */
  furthestOffsetMs = 0;
  uncommitted: Deed[] = [];
  /** Calls that have arrived and are decided together. */
  inbox: Arrived[] = [];
  /** Goes up with every crash: what was under way before it gets no answer. */
  life = 0;

  constructor(readonly name: string) {}

  crash(): void {
    this.disk.crash();
    this.ledger = new Ledger(this.disk);
    this.uncommitted = [];
    for (const { reject } of this.inbox.splice(0)) reject(failure({ retryable: true }));
    this.life++;
  }
}

interface Arrived {
  readonly call: Call;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** What objects did, in the order in which they did it: for the judge. */
export interface Deed {
  readonly object: string;
  readonly wallMs: number;
  readonly what:
    | { readonly kind: "consume"; readonly charge: Charge; readonly answer: ChargeAnswer }
    | { readonly kind: "undo"; readonly charge: Charge; readonly answer: Answer }
    | { readonly kind: "settle"; readonly question: EventQuestion; readonly answer: SettleAnswer };
  /** Set when what was written is durable; of what never is, nothing counts. */
  committed: boolean;
}

/** Between edge and objects: delays, reorders, loses and repeats calls and answers, and crashes objects in the middle. */
export class Network implements ObjectNamespace {
  readonly objects = new Map<string, SimulatedObject>();
  readonly deeds: Deed[] = [];
  /** Questions that were refused by an object that had too much to do, and by which methods. */
  readonly #overloaded = new WeakMap<object, Set<Method>>();
  /** Calls that were repeated although their object had said that it is overloaded. */
  pushed = 0;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    public faults: Faults,
    /** How coarse the objects' clocks are: on a coarse one events meet the ends of windows to the millisecond. */
    private readonly tickMs: number,
  ) {}

  getByName(name: string): ObjectStub {
    const object = this.object(name);
    const call = (method: Method) => (question: object) => this.#call(object, method, question);
    const stub = { check: call("check"), consume: call("consume"), undo: call("undo"), settle: call("settle") };
    return stub as unknown as ObjectStub;
  }

  object(name: string): SimulatedObject {
    const known = this.objects.get(name);
    if (known) return known;
    const object = new SimulatedObject(name);
    this.objects.set(name, object);
    return object;
  }

  #call(object: SimulatedObject, method: Method, question: object): Promise<unknown> {
    // The edge sends the same question again when it tries again, and another when its caller does.
    const refused = this.#overloaded.get(question) ?? new Set();
    if (refused.has(method)) this.pushed++;
    const { faults, chance } = this;
    return new Promise((resolve, reject) => {
      if (chance.is(faults.overloaded)) {
        this.#overloaded.set(question, refused.add(method));
        this.scheduler.after(this.#delayMs(), () => reject(failure({ overloaded: true, retryable: true })));
        return;
      }
      const deliver = (answer: (value: unknown) => void) =>
        this.scheduler.after(this.#delayMs(), () => this.#arrive(object, method, question, answer, reject));
      if (chance.is(faults.repeated)) deliver(() => {});
      if (chance.is(faults.lost)) this.scheduler.after(this.#delayMs(), () => reject(failure({ retryable: true })));
      else deliver(resolve);
    });
  }

  #arrive(
    object: SimulatedObject,
    method: Method,
    question: unknown,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ): void {
    const { faults, chance } = this;
    // As it would be sent: the object shares nothing with the edge.
    const call = JSON.parse(JSON.stringify({ method, question })) as Call;
    if (object.inbox.length === 0) this.scheduler.after(chance.below(3), () => this.#decideAll(object));
    object.inbox.push({ call, resolve, reject });
    if (chance.is(faults.crash)) this.scheduler.after(chance.below(3), () => object.crash());
  }

  #decideAll(object: SimulatedObject): void {
    const { faults, chance } = this;
    const arrived = object.inbox.splice(0);
    if (chance.is(faults.clockJump)) object.clockOffsetMs += chance.below(8_000) - 4_000;
    object.furthestOffsetMs = Math.max(object.furthestOffsetMs, Math.abs(object.clockOffsetMs));
    const wallMs = this.#tick(this.scheduler.nowMs + object.clockOffsetMs);
    const calls = arrived.map(({ call }) => call);
    const outcomes = object.ledger.decide(calls, wallMs);
    for (const [i, call] of calls.entries()) this.#note(object, wallMs, call, outcomes[i] as Outcome);
    const { life } = object;
    // The output gate: answers leave when what was written is durable. A crash before that loses both.
    this.scheduler.after(chance.below(3), () => {
      const hasCrashed = object.life !== life;
      if (!hasCrashed) object.disk.commit();
      if (!hasCrashed) for (const deed of object.uncommitted.splice(0)) deed.committed = true;
      for (const [i, { resolve, reject }] of arrived.entries()) {
        const outcome = outcomes[i] as Outcome;
        if (hasCrashed || "error" in outcome || chance.is(faults.lost)) reject(failure({ retryable: true }));
        else this.scheduler.after(this.#delayMs(), () => resolve(JSON.parse(JSON.stringify(outcome.answer))));
      }
    });
  }

  #note(object: SimulatedObject, wallMs: number, { method, question }: Call, outcome: Outcome): void {
    if ("error" in outcome) throw outcome.error;
    if (method === "check") return;
    const what =
      method === "settle"
        ? { kind: method, question, answer: outcome.answer as SettleAnswer }
        : { kind: method, charge: question, answer: outcome.answer as ChargeAnswer };
    const deed = { object: object.name, wallMs, what, committed: false };
    this.deeds.push(deed);
    object.uncommitted.push(deed);
  }

  #tick(ms: number): number {
    return ms - (ms % this.tickMs);
  }

  #delayMs(): number {
    return this.chance.is(this.faults.slow) ? this.chance.below(3_000) : 1 + this.chance.below(20);
  }
}

function failure(properties: { retryable?: boolean; overloaded?: boolean }): Error {
  return Object.assign(new Error("simulated"), properties);
}
