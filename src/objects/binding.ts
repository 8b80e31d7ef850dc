import type { Config } from "../config/config";
import type { KeyOverride, LayerLimits } from "../core/override";
import { decodeResults, encodeCalls } from "../object/message";
import type { Call, CallResult, Inspected, OverrideToSet } from "../object/protocol";
import { callWithin } from "./deadline";
import type { Restrictable } from "./jurisdiction";
import type { Timing } from "./timing";

/** Where to create an object that does not exist yet. */
export interface ObjectOptions {
  readonly locationHint?: DurableObjectLocationHint;
}

/** An object, as decisions call it. A call or its answer may be lost. */
export interface DecidingStub {
  /** Decides all of these calls, in their order. */
  decide(calls: readonly Call[]): Promise<CallResult[]>;
}

/** An object with all of its calls, those about one key included. */
export interface ObjectStub extends DecidingStub {
  inspect(key: string, layers: readonly LayerLimits[], mostEvents: number): Promise<Inspected[]>;
  overrideOf(key: string): Promise<KeyOverride | undefined>;
  forget(key: string): Promise<void>;
  setOverride(key: string, override: OverrideToSet): Promise<KeyOverride>;
  liftOverride(key: string): Promise<void>;
}

/** The objects, by name. */
export interface ObjectNamespace<S extends DecidingStub = ObjectStub> {
  getByName(name: string, where: ObjectOptions): S;
}

/** Calls an object, and retries within the deadline. Each try takes a new stub, since a broken stub repeats its error. */
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

/** An object as the runtime hands it out: calls that decide, and their results, travel as text (`object/message.ts`). */
export type BoundObject = Omit<ObjectStub, "decide"> & { decide(calls: string): Promise<string> };

export interface BoundNamespace extends Restrictable {
  getByName(name: string, where: ObjectOptions): BoundObject;
}

/** The objects behind a binding. */
export class BoundObjects implements ObjectNamespace {
  constructor(
    private readonly namespace: BoundNamespace,
    /** Called with the duration of each call that decides, failed calls included. */
    private readonly observe: (ms: number) => void = () => {},
  ) {}

  getByName(name: string, where: ObjectOptions): ObjectStub {
    const object = this.namespace.getByName(name, where);
    return {
      decide: async (calls) => {
        const startMs = Date.now();
        try {
          return decodeResults(await object.decide(encodeCalls(calls)), calls);
        } finally {
          this.observe(Date.now() - startMs);
        }
      },
      inspect: (key, layers, mostEvents) => object.inspect(key, layers, mostEvents),
      overrideOf: (key) => object.overrideOf(key),
      forget: (key) => object.forget(key),
      setOverride: (key, override) => object.setOverride(key, override),
      liftOverride: (key) => object.liftOverride(key),
    };
  }
}
