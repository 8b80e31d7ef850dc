import type { Config } from "../config/config";
import { overrideOf } from "../core/override";
import type { OverrideToSet } from "../object/protocol";
import type { KeyState, OverriddenKey } from "./admin-schema";
import type { Timing } from "./deadline";
import { limitState } from "./decision";
import type { Denials } from "./denials";
import { callObject, type ObjectNamespace, type ObjectStub, unreachable } from "./objects";
import { overrideBody } from "./override";
import { objectOf } from "./placement";

/** What is done about one key, in its normal form, by the one object that holds it. */
export class Keys {
  constructor(
    private readonly config: Pick<Config, "policies" | "placement" | "locationHint" | "deadlineMs">,
    private readonly objects: ObjectNamespace,
    private readonly timing: Timing,
    private readonly denials: Denials,
  ) {}

  /** Every counter of a key, what overrides it, and of each the newest `mostEvents` events that still count. */
  async inspect(key: string, mostEvents: number): Promise<KeyState> {
    const asked = [...this.config.policies.values()].flatMap((policy) =>
      policy.layers.map(({ name, limits }) => ({ policy: policy.name, layer: name, limits })),
    );
    const inspected = await this.#call(key, (stub) => stub.inspect(key, asked, mostEvents));
    const override = inspected[0]?.override;
    const counters = asked.map(({ policy, layer, limits }, i) => {
      const { standings = [], total = 0, events = [] } = inspected[i] ?? {};
      const inForce = override && overrideOf(override, policy, layer);
      return {
        policy,
        layer,
        limits: (inForce?.limits ?? limits).flatMap((limit, l) =>
          standings[l] ? [limitState(limit, standings[l], inForce?.kind)] : [],
        ),
        events_total: total,
        events: events.map(({ id, atMs, cost, admittedCost }) => ({
          id,
          at: new Date(atMs).toISOString(),
          cost,
          ...(admittedCost !== undefined && { admitted_cost: admittedCost }),
        })),
      };
    });
    return {
      key,
      override: override ? overrideBody(override) : null,
      counters: counters.filter(({ events_total }) => events_total > 0),
    };
  }

  /** Forgets what was admitted. What overrides the key stays. */
  async forget(key: string): Promise<void> {
    await this.#change(key, (stub) => stub.forget(key));
  }

  /** Overrides the limits of a key, in place of what overrides them now, until it ends. */
  async setOverride(key: string, override: OverrideToSet): Promise<OverriddenKey> {
    const set = await this.#change(key, (stub) => stub.setOverride(key, override));
    return { key, override: overrideBody(set) };
  }

  async liftOverride(key: string): Promise<void> {
    await this.#change(key, (stub) => stub.liftOverride(key));
  }

  /** What may make room. It may have been done also when its answer is lost. */
  #change<T>(key: string, call: (stub: ObjectStub) => Promise<T>): Promise<T> {
    return this.#call(key, call).finally(() => this.denials.doubt([key]));
  }

  /** @throws Refusal `unreachable` */
  #call<T>(key: string, call: (stub: ObjectStub) => Promise<T>): Promise<T> {
    const object = objectOf(key, this.config.placement);
    return callObject(this.objects, object, call, this.config, this.timing).catch(unreachable);
  }
}
