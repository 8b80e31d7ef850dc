import type { AskedOf, Call, Inspected, KeyOverride, Outcome, OverrideToSet } from "../object/protocol";

/** Where to create an object that is not there yet. */
export interface Where {
  readonly locationHint?: DurableObjectLocationHint;
}

/** The calls of an object, each of which may be lost on its way there or back. */
export interface ObjectStub {
  /** Decides all of these in their order. */
  decide(calls: readonly Call[]): Promise<Outcome[]>;
  inspect(key: string, asked: readonly AskedOf[], mostEvents: number): Promise<Inspected[]>;
  forget(key: string): Promise<void>;
  setOverride(key: string, override: OverrideToSet): Promise<KeyOverride>;
  liftOverride(key: string): Promise<void>;
}

/** Where objects are reached by name. */
export interface ObjectNamespace {
  getByName(name: string, where: Where): ObjectStub;
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
