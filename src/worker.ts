import { WorkerEntrypoint } from "cloudflare:workers";
import { bodyOf, type Decided, settlementOf } from "./edge/decision";
import { logFault } from "./edge/log";
import { Refusal } from "./edge/refusal";
import type { ConsumeRequest, Decision, DecisionRequest, Settlement, SettleRequest } from "./edge/schema";
import { type Env, serviceOf } from "./edge/service";
import { handle } from "./http/app";

export type { ConsumeRequest, Decision, DecisionRequest, Settlement, SettleRequest } from "./edge/schema";
export { LimiterObject } from "./object/object";

/** HTTP, for backends anywhere. */
export default { fetch: handle } satisfies ExportedHandler<Env>;

/**
 * The same decisions for another Worker over a service binding (`entrypoint = "LimiterRpc"`), without HTTP or a token:
 * the binding is the permission. A denial is a value. A request that can't be decided throws a Refusal, whose `kind`,
 * `message` and `errors` arrive at the caller.
 */
export class LimiterRpc extends WorkerEntrypoint<Env> {
  async check(request: DecisionRequest): Promise<Decision> {
    const { limiter } = await serviceOf(this.env);
    return bodyOf(await answered(limiter.check(request)));
  }

  async consume(request: ConsumeRequest): Promise<Decision> {
    const { limiter } = await serviceOf(this.env);
    const { idempotency_key, ...rest } = Object(request) as ConsumeRequest;
    return bodyOf(await answered(limiter.consume(rest, idempotency_key, (work) => this.ctx.waitUntil(work))));
  }

  async settle(request: SettleRequest): Promise<Settlement> {
    const { limiter } = await serviceOf(this.env);
    return settlementOf(await answered(limiter.settle(request)));
  }
}

async function answered(decided: Promise<Decided>): Promise<Decided> {
  try {
    return await decided;
  } catch (error) {
    if (error instanceof Refusal) throw error;
    logFault("an RPC failed", error);
    throw new Error("The limiter failed; its log says how.");
  }
}
