import { bodyOf } from "../limiter/decision-body";
import type { Limiter } from "../limiter/limiter";
import type { CallQueues } from "../objects/call-queue";
import type { WaitUntil } from "../objects/objects";
import { type ReadConfig, readCheck, readConfigOf, readConsumeInBatch, readRelease, readSettle } from "../request/read";
import { invalid, isRecord, objectIn, readBySchema } from "../request/refusal";
import { type Batch, type BatchResults, batchEnvelope } from "../request/schema";
import type { Token } from "../request/tokens";
import type { Service } from "../service";
import { consumeReply, decisionReply, releaseReply, settleReply } from "./decision-reply";
import { errorReply } from "./problem";
import type { Reply } from "./reply";

/**
 * Decides many calls at once. Each is decided by itself; calls that meet in one object keep their order. Each object is
 * called once for the whole batch, and again if something is rolled back or decided again, or a layer is in shadow.
 * @throws Refusal `invalid` if the input is no batch. A mistake in a single call is in that call's result.
 */
export async function batch(
  input: unknown,
  service: Service,
  waitUntil: WaitUntil,
  token?: Token,
): Promise<BatchResults> {
  return decideBatch(readBySchema(batchEnvelope, input), service, service.limiter.callQueues(), waitUntil, token);
}

/**
 * Decides a batch that was read: each request by the limiter of its position. Batches may share call queues. Over RPC
 * there is no token, and every policy may be used.
 */
export async function decideBatch(
  { requests, headers: hasHeaders = false, limits: hasLimits = true }: Batch,
  service: Service,
  queues: CallQueues,
  waitUntil: WaitUntil,
  token?: Token,
): Promise<BatchResults> {
  const config = token ? readConfigOf(service.config, token) : service.config;
  if (token) service.counts?.countRequests(token.name, requests.length);
  const limiterAt = service.limiter.forBatch(queues);
  const replying = queues.begin(() =>
    requests.map((item, position) => replyTo(item, config, limiterAt(position), waitUntil)),
  );
  const replies = await Promise.all(replying);
  return {
    results: replies.map((reply) => ({
      status: reply.status,
      ...(hasHeaders && { headers: { ...reply.headers() } }),
      body: (hasLimits ? reply.body : withoutLimits(reply.body)) as BatchResults["results"][number]["body"],
    })),
  };
}

function withoutLimits(body: unknown): unknown {
  if (!isRecord(body)) return body;
  const { limits, ...rest } = body;
  return rest;
}

async function replyTo(item: unknown, config: ReadConfig, limiter: Limiter, waitUntil: WaitUntil): Promise<Reply> {
  try {
    // Read without a copy: most calls of a batch are consumes.
    if (isRecord(item) && item.op === "consume")
      return consumeReply(await limiter.consume(readConsumeInBatch(item, config), waitUntil), bodyOf);
    const { op, ...request } = objectIn(item);
    if (op === "check") return decisionReply(await limiter.check(readCheck(request, config)), bodyOf);
    if (op === "settle") return settleReply(await limiter.settle(readSettle(request, config)));
    if (op === "release") return releaseReply(await limiter.release(readRelease(request, config)));
    throw invalid([{ pointer: "/op", detail: "must be consume, check, settle or release" }]);
  } catch (error) {
    return errorReply(error);
  }
}
