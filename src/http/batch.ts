import { bodyOf } from "../limiter/decision-body";
import type { Limiter } from "../limiter/limiter";
import type { WaitUntil } from "../objects/asker";
import type { CallQueues } from "../objects/call-queue";
import { hear } from "../objects/calls";
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
  const read = readBySchema(batchEnvelope, input);
  const deciding = decideBatch(read, service, service.limiter.callQueues(), waitUntil, token);
  // A caller that hangs up must not leave a charge half rolled back, or uncounted in shadow.
  waitUntil(deciding.catch(() => {}));
  return deciding;
}

/**
 * Decides a batch that was read: each request by itself. Batches may share call queues. The caller keeps it alive until all
 * is decided, as a hub does while it has sessions. Over RPC there is no token, and every policy may be used.
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
  const replies = await repliesTo(requests, config, service.limiter.forBatch(queues), queues, waitUntil);
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

/** One promise for the whole batch. The requests use callbacks, which take far less time than promises. */
function repliesTo(
  requests: readonly unknown[],
  config: ReadConfig,
  inBatch: Limiter,
  queues: CallQueues,
  waitUntil: WaitUntil,
): Promise<readonly Reply[]> {
  return new Promise((resolve) => {
    const replies: Reply[] = [];
    let unanswered = requests.length;
    const replyAt = (position: number, reply: Reply) => {
      replies[position] = reply;
      unanswered--;
      if (unanswered === 0) resolve(replies);
    };
    queues.begin(() =>
      requests.forEach((item, position) => {
        try {
          // Read without a copy: most calls of a batch are consumes.
          if (isRecord(item) && item.op === "consume")
            inBatch.consumeInBatch(readConsumeInBatch(item, config), position, waitUntil, {
              answered: (decision) => replyAt(position, consumeReply(decision, bodyOf)),
              failed: (error) => replyAt(position, errorReply(error)),
            });
          else
            hear(replyTo(item, position, config, inBatch), {
              answered: (reply) => replyAt(position, reply),
              failed: (error) => replyAt(position, errorReply(error)),
            });
        } catch (error) {
          replyAt(position, errorReply(error));
        }
      }),
    );
  });
}

async function replyTo(item: unknown, position: number, config: ReadConfig, limiter: Limiter): Promise<Reply> {
  const { op, ...request } = objectIn(item);
  if (op === "check") return decisionReply(await limiter.check(readCheck(request, config), position), bodyOf);
  if (op === "settle") return settleReply(await limiter.settle(readSettle(request, config), position));
  if (op === "release") return releaseReply(await limiter.release(readRelease(request, config), position));
  throw invalid([{ pointer: "/op", detail: "must be consume, check, settle or release" }]);
}
