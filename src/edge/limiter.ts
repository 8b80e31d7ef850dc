import type { Config } from "../config/config";
import type { LimiterObject } from "../object/object";
import { type Decided, decided, limitState } from "./decision";
import { FanOut } from "./fan-out";
import { readRequest } from "./request";
import type { KeyState, PolicyList } from "./schema";

/** What the service does, whoever asks: HTTP and RPC only translate. Inputs are as they came, and checked here. */
export class Limiter {
  readonly #objects: FanOut;

  constructor(
    private readonly config: Config,
    objects: DurableObjectNamespace<LimiterObject>,
  ) {
    this.#objects = new FanOut(objects, config);
  }

  /** Would this request be admitted now? Records nothing. */
  async check(input: unknown): Promise<Decided> {
    const asked = readRequest(input, this.config);
    const { policy, cost, counters } = asked;
    return decided(asked, await this.#objects.check({ policy: policy.name, cost, counters }));
  }

  /** Records the request's cost if every limit of every layer admits it. */
  async consume(input: unknown): Promise<Decided> {
    const asked = readRequest(input, this.config);
    const { policy, cost, counters } = asked;
    const id = crypto.randomUUID();
    return decided(asked, await this.#objects.consume({ id, policy: policy.name, cost, counters }), id);
  }

  policies(): PolicyList {
    return {
      policies: [...this.config.policies.values()].map(({ name, layers }) => ({
        name,
        layers: layers.map(({ name, by, limits }) => ({
          name,
          by: [...by],
          limits: limits.map(({ max, windowMs }) => ({ limit: max, window_seconds: windowMs / 1_000 })),
        })),
      })),
    };
  }

  /** Every counter of a key in its normal form, and of each the newest `mostEvents` events that still count. */
  async inspect(key: string, mostEvents: number): Promise<KeyState> {
    const asked = [...this.config.policies.values()].flatMap((policy) =>
      policy.layers.map(({ name, limits }) => ({ policy: policy.name, layer: name, key, limits })),
    );
    const inspected = await this.#objects.inspect(key, asked, mostEvents);
    const counters = asked.map(({ policy, layer, limits }, i) => {
      const { standings = [], total = 0, events = [] } = inspected[i] ?? {};
      return {
        policy,
        layer,
        limits: limits.flatMap((limit, l) => (standings[l] ? [limitState(limit, standings[l])] : [])),
        events_total: total,
        events: events.map(({ id, atMs, cost }) => ({ id, at: new Date(atMs).toISOString(), cost })),
      };
    });
    return { key, counters: counters.filter(({ events_total }) => events_total > 0) };
  }

  async forget(key: string): Promise<void> {
    await this.#objects.forget(key);
  }
}
