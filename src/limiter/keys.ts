import type { Config } from "../config/config";
import type { KeyOverride } from "../core/override";
import { overrideOf } from "../core/override";
import type { OverrideToSet } from "../object/protocol";
import { callObject, type ObjectNamespace, type ObjectStub } from "../objects/binding";
import type { DenialCache } from "../objects/denial-cache";
import { objectOf } from "../objects/placement";
import type { Timing } from "../objects/timing";
import { throwUnreachable } from "../objects/unreachable";
import type { KeyState } from "../request/admin-schema";
import { overrideBody } from "../request/override-request";
import { limitState } from "./decision-body";
import { denialBodies } from "./denial-body";

/** What admins do about one key, in its normal form. One object holds all of the key's counters. */
export class Keys {
  constructor(
    private readonly config: Pick<Config, "policies" | "placement" | "locationHint" | "deadlineMs">,
    private readonly objects: ObjectNamespace,
    private readonly timing: Timing,
    private readonly denialCache: DenialCache,
  ) {}

  /**
   * Every counter of a key with its newest `most.events` events that still count, the key's override, and if they are asked
   * for, the denials that its object remembers.
   */
  async inspect(key: string, most: { events: number; denials?: number | undefined }): Promise<KeyState> {
    const layers = [...this.config.policies.values()].flatMap((policy) =>
      policy.layers.map(({ name, limits }) => ({ policy: policy.name, layer: name, limits })),
    );
    const inspected = await this.#call(key, (stub) => stub.inspect(key, layers, most.events));
    const override = inspected[0]?.override;
    const counters = layers.map(({ policy, layer, limits }, i) => {
      const { standings = [], total = 0, events = [] } = inspected[i] ?? {};
      const inForce = override && overrideOf(override, policy, layer);
      return {
        policy,
        layer,
        limits: (inForce?.limits ?? limits).flatMap((limit, l) =>
          standings[l] ? [limitState(limit, standings[l], inForce?.kind)] : [],
        ),
        events_total: total,
        events: events.map(({ id, atMs, cost, admittedCost, released }) => ({
          id,
          at: new Date(atMs).toISOString(),
          cost,
          ...(admittedCost !== undefined && { admitted_cost: admittedCost }),
          ...(released && { released }),
        })),
      };
    });
    return {
      key,
      override: override ? overrideBody(override) : null,
      counters: counters.filter(({ events_total }) => events_total > 0),
      ...(most.denials !== undefined && denialBodies(inspected[0]?.denials, most.denials, this.config.policies)),
    };
  }

  /** The override of a key that is in force. @throws Refusal `unreachable` */
  overrideOf(key: string): Promise<KeyOverride | undefined> {
    return this.#call(key, (stub) => stub.overrideOf(key));
  }

  /** Forgets every event of the key. Its override stays. */
  async forget(key: string): Promise<void> {
    await this.#change(key, (stub) => stub.forget(key));
  }

  /** Sets the override of a key, in place of the one in force. Concurrent writes: the last to arrive wins. */
  setOverride(key: string, override: OverrideToSet): Promise<KeyOverride> {
    return this.#change(key, (stub) => stub.setOverride(key, override));
  }

  async liftOverride(key: string): Promise<void> {
    await this.#change(key, (stub) => stub.liftOverride(key));
  }

  /** A change may make room, even if its answer is lost. */
  #change<T>(key: string, call: (stub: ObjectStub) => Promise<T>): Promise<T> {
    return this.#call(key, call).finally(() => this.denialCache.invalidate([key]));
  }

  /** @throws Refusal `unreachable` */
  #call<T>(key: string, call: (stub: ObjectStub) => Promise<T>): Promise<T> {
    const object = objectOf(key, this.config.placement);
    return callObject(this.objects, object, call, this.config, this.timing).catch(throwUnreachable);
  }
}
