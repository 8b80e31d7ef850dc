import type { Timing } from "./timing";

const FIRST_PAUSE_MS = 20;

/** The first pause after an error about the whole account, which no single call can help. */
const ACCOUNT_PAUSE_MS = 100;

/**
 * Calls, and retries with exponential back-off and jitter until the deadline, which holds for all tries together. A call
 * must be safe to repeat: a call whose answer was lost may have done its work.
 * @throws the last error, or a DeadlineError.
 */
export async function callWithin<T>(deadlineMs: number, call: () => Promise<T>, timing: Timing): Promise<T> {
  const giveUpAtMs = timing.now() + deadlineMs;
  let leftMs = deadlineMs;
  for (let pauseMs = FIRST_PAUSE_MS; leftMs > 0; pauseMs *= 2) {
    try {
      return await within(leftMs, call(), timing);
    } catch (error) {
      if (isAccountBusy(error)) pauseMs = Math.max(pauseMs, ACCOUNT_PAUSE_MS);
      const jitteredMs = pauseMs * (0.5 + timing.random());
      if (!isRetryable(error) || timing.now() + jitteredMs >= giveUpAtMs) throw error;
      await new Promise<void>((resolve) => timing.after(jitteredMs, resolve));
    }
    leftMs = giveUpAtMs - timing.now();
  }
  throw new DeadlineError("the deadline passed before the call");
}

export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

/** The call was refused before it was sent, so the object has done nothing. */
export class NotSentError extends Error {
  override readonly name = "NotSentError";
}

/** The answer, if it comes within `ms`. @throws DeadlineError */
export function within<T>(ms: number, answer: Promise<T>, timing: Timing): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = timing.after(ms, () => reject(new DeadlineError(`no answer within ${ms} ms`)));
    answer.then(
      (value) => {
        cancel();
        resolve(value);
      },
      (error: unknown) => {
        cancel();
        reject(error);
      },
    );
  });
}

/**
 * Reads the runtime's properties of a failed call: https://developers.cloudflare.com/durable-objects/best-practices/error-handling/
 * An object that was reset, by a deploy or a failed write, starts again with the next call. An overloaded object is not asked
 * again: retries would keep it overloaded.
 */
function isRetryable(error: unknown): boolean {
  const { retryable, durableObjectReset } = Object(error) as { retryable?: unknown; durableObjectReset?: unknown };
  return isAccountBusy(error) || ((retryable === true || durableObjectReset === true) && !isOverloaded(error));
}

/** The object has too much to do. */
export function isOverloaded(error: unknown): boolean {
  return (Object(error) as { overloaded?: unknown }).overloaded === true && !isAccountBusy(error);
}

/**
 * The account creates or looks up too many objects. The call did not reach its object, and retrying is safe:
 * https://developers.cloudflare.com/durable-objects/observability/troubleshooting/
 */
function isAccountBusy(error: unknown): boolean {
  return error instanceof Error && error.message.includes("too much load on Durable Objects");
}
