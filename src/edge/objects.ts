import type { Config } from "../config/config";
import type { KeyOverride, LayerLimits } from "../core/override";
import type { Call, Inspected, Outcome, OverrideToSet } from "../object/protocol";
import { callWithin, type Timing } from "./deadline";
import { logFault } from "./fault";
import { Refusal } from "./refusal";

/** Where to create an object that is not there yet. */
export interface Where {
  readonly locationHint?: DurableObjectLocationHint;
}

/** What decisions need of an object. Each call may be lost on its way there or back. */
export interface DecidingStub {
  /** Decides all of these in their order. */
  decide(calls: readonly Call[]): Promise<Outcome[]>;
}

/** All calls of an object: those about one key, too. */
export interface ObjectStub extends DecidingStub {
  inspect(key: string, asked: readonly LayerLimits[], mostEvents: number): Promise<Inspected[]>;
  forget(key: string): Promise<void>;
  setOverride(key: string, override: OverrideToSet): Promise<KeyOverride>;
  liftOverride(key: string): Promise<void>;
}

/** Where objects are reached by name. */
export interface ObjectNamespace<S extends DecidingStub = ObjectStub> {
  getByName(name: string, where: Where): S;
}

/** Calls an object until it answers, within the deadline. Each try takes a new stub: one that broke repeats its error. */
export function callObject<S extends DecidingStub, T>(
  objects: ObjectNamespace<S>,
  name: string,
  call: (stub: S) => Promise<T>,
  { locationHint, deadlineMs }: Pick<Config, "locationHint" | "deadlineMs">,
  timing: Timing,
): Promise<T> {
  const where = locationHint === undefined ? {} : { locationHint };
  return callWithin(deadlineMs, () => call(objects.getByName(name, where)), timing);
}

/** Whether an object that is silent did its work is not known. */
export function silent(error: unknown): undefined {
  logFault("An object could not be reached.", error);
}

/** @throws Refusal `unreachable` */
export function unreachable(error?: unknown): never {
  if (error !== undefined) silent(error);
  throw new Refusal("unreachable", "The counters could not be reached in time. Try again.");
}

/** An object as the runtime hands it out: calls that decide, and what became of them, are JSON. */
export type BoundObject = Omit<ObjectStub, "decide"> & { decide(calls: string): Promise<string> };

export interface BoundNamespace {
  getByName(name: string, where: Where): BoundObject;
}

/** The objects behind a binding. */
export class BoundObjects implements ObjectNamespace {
  constructor(
    private readonly namespace: BoundNamespace,
    /** Is told how long each call that decides took, also one that failed. */
    private readonly observe: (ms: number) => void = () => {},
  ) {}

  getByName(name: string, where: Where): ObjectStub {
    const object = this.namespace.getByName(name, where);
    return {
      decide: async (calls) => {
        const startMs = Date.now();
        try {
          return JSON.parse(await object.decide(JSON.stringify(calls))) as Outcome[];
        } finally {
          this.observe(Date.now() - startMs);
        }
      },
      inspect: (key, asked, mostEvents) => object.inspect(key, asked, mostEvents),
      forget: (key) => object.forget(key),
      setOverride: (key, override) => object.setOverride(key, override),
      liftOverride: (key) => object.liftOverride(key),
    };
  }
}
