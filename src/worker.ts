import { WorkerEntrypoint } from "cloudflare:workers";
import { bodyOf, releaseOf, settlementOf } from "./edge/decision";
import type { WaitUntil } from "./edge/fan-out";
import { logFault } from "./edge/fault";
import { Refusal } from "./edge/refusal";
import { readCheck, readConsumeWithKey, readRelease, readSettle } from "./edge/request";
import type {
  BatchRequest,
  BatchResults,
  ConsumeRequest,
  Decision,
  DecisionRequest,
  Release,
  ReleaseRequest,
  Settlement,
  SettleRequest,
} from "./edge/schema";
import { type Env, serviceOf } from "./edge/service";
import { appOf } from "./http/app";
import { batch } from "./http/batch";
import { ROUTES } from "./http/routes";
import { UnderWay } from "./http/under-way";

export type * from "./edge/schema";
export { LimiterObject } from "./object/object";
export { StatsObject } from "./stats/object";

const underWay = new UnderWay();

/** HTTP, for backends anywhere. */
export default { fetch: underWay.watched(appOf(ROUTES)) } satisfies ExportedHandler<Env>;

/**
 * The same decisions for another Worker over a service binding (`entrypoint = "LimiterRpc"`), without HTTP or a token:
 * the binding is the permission. A denial is a value. A request that can't be decided throws a Refusal, whose `kind`,
 * `message` and `errors` arrive at the caller.
 */
export class LimiterRpc extends WorkerEntrypoint<Env> {
  async check(request: DecisionRequest): Promise<Decision> {
    const { config, limiter } = serviceOf(this.env);
    return bodyOf(await answered(async () => limiter.check(readCheck(request, config))));
  }

  async consume(request: ConsumeRequest): Promise<Decision> {
    const { config, limiter } = serviceOf(this.env);
    return bodyOf(await answered(async () => limiter.consume(readConsumeWithKey(request, config), this.#waitUntil)));
  }

  async settle(request: SettleRequest): Promise<Settlement> {
    const { config, limiter } = serviceOf(this.env);
    return settlementOf(await answered(async () => limiter.settle(readSettle(request, config))));
  }

  async release(request: ReleaseRequest): Promise<Release> {
    const { config, limiter } = serviceOf(this.env);
    return releaseOf(await answered(async () => limiter.release(readRelease(request, config))));
  }

  /** Up to 100 of these calls, decided each by itself: results with the status and the body of the call over HTTP. */
  async batch(request: BatchRequest): Promise<BatchResults> {
    return answered(async () => batch(request, serviceOf(this.env), this.#waitUntil));
  }

  readonly #waitUntil: WaitUntil = (work) => this.ctx.waitUntil(work);
}

/** `npm start` binds it, and has everything that was answered counted and written before it ends the runtime. */
export class Shutdown extends WorkerEntrypoint<Env> {
  async writeCounts(): Promise<void> {
    await underWay.close();
    await serviceOf(this.env).counts?.write();
  }
}

async function answered<T>(decide: () => Promise<T>): Promise<T> {
  try {
    return await decide();
  } catch (error) {
    if (error instanceof Refusal) throw error;
    logFault("An RPC call failed.", error);
    throw new Error("The limiter failed. Its log has the details.");
  }
}
