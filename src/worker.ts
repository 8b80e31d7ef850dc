import { WorkerEntrypoint } from "cloudflare:workers";
import { logFault } from "./fault";
import { appOf } from "./http/app";
import { batch } from "./http/batch";
import { requestsInFlight } from "./http/in-flight";
import { ROUTES } from "./http/routes";
import { sendingCounts } from "./http/sending-counts";
import { endLocalSessions } from "./http/session";
import { bodyOf, releaseBodyOf, settlementBodyOf } from "./limiter/decision-body";
import type { WaitUntil } from "./objects/asker";
import { readCheck, readConsumeWithKey, readRelease, readSettle } from "./request/read";
import { Refusal } from "./request/refusal";
import type {
  BatchRequest,
  BatchResults,
  ConsumeRequest,
  DecisionBody,
  DecisionRequest,
  ReleaseBody,
  ReleaseRequest,
  SettlementBody,
  SettleRequest,
} from "./request/schema";
import { countsIn, type Env, serviceOf } from "./service";

export { AuditObject } from "./audit/audit-object";
export { StatsObject } from "./counting/stats-object";
export { HubObject } from "./hub/hub";
export { LimiterObject } from "./object/object";
export type {
  BatchRequest,
  BatchResults,
  ConsumeRequest,
  DecisionBody as Decision,
  DecisionRequest,
  ReleaseBody as Release,
  ReleaseRequest,
  SettlementBody as Settlement,
  SettleRequest,
} from "./request/schema";

/** The calls over HTTP. */
export default { fetch: requestsInFlight.counted(sendingCounts(appOf(ROUTES))) } satisfies ExportedHandler<Env>;

/**
 * The calls that decide, for another Worker over a service binding (`entrypoint = "LimiterRpc"`). They need no HTTP and
 * no token: the binding is the permission. A denial is a value. A request that can't be decided throws a Refusal, whose
 * `kind`, `message` and `errors` reach the caller.
 */
export class LimiterRpc extends WorkerEntrypoint<Env> {
  async check(request: DecisionRequest): Promise<DecisionBody> {
    const { config, limiter } = serviceOf(this.env);
    return bodyOf(await this.#decided(async () => limiter.check(readCheck(request, config))));
  }

  async consume(request: ConsumeRequest): Promise<DecisionBody> {
    const { config, limiter } = serviceOf(this.env);
    return bodyOf(
      await this.#decided(async () => limiter.consume(readConsumeWithKey(request, config), this.#waitUntil)),
    );
  }

  async settle(request: SettleRequest): Promise<SettlementBody> {
    const { config, limiter } = serviceOf(this.env);
    return settlementBodyOf(await this.#decided(async () => limiter.settle(readSettle(request, config))));
  }

  async release(request: ReleaseRequest): Promise<ReleaseBody> {
    const { config, limiter } = serviceOf(this.env);
    return releaseBodyOf(await this.#decided(async () => limiter.release(readRelease(request, config))));
  }

  /** Decides up to 100 calls, each by itself. A result has the status and the body of the same call over HTTP. */
  async batch(request: BatchRequest): Promise<BatchResults> {
    return this.#decided(async () => batch(request, serviceOf(this.env), this.#waitUntil));
  }

  readonly #waitUntil: WaitUntil = (work) => this.ctx.waitUntil(work);

  async #decided<T>(decide: () => Promise<T>): Promise<T> {
    try {
      return await decide();
    } catch (error) {
      if (error instanceof Refusal) throw error;
      logFault("rpc_failed", error);
      throw new Error("The limiter failed. Its log has the details.");
    } finally {
      countsIn(this.env)?.sendLater(this.#waitUntil);
    }
  }
}

/** Bound by `npm start`, which has the counts of all replies written before it ends the runtime. */
export class Shutdown extends WorkerEntrypoint<Env> {
  async writeCounts(): Promise<void> {
    const service = serviceOf(this.env);
    await requestsInFlight.close();
    await endLocalSessions(this.env, service);
    await service.counts?.write();
  }
}
