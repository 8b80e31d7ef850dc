/** The time and the chance that retries go by: real ones, or a simulation's. */
export interface Timing {
  now(): number;
  /** From 0 up to, but not including, 1. */
  random(): number;
  /** Runs `work` once `ms` have passed, unless the function that it returns is called before. */
  after(ms: number, work: () => void): () => void;
}

export const realTiming: Timing = {
  now: Date.now,
  random: Math.random,
  after(ms, work) {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

/** The same time, with one timer for all that is due in the same millisecond: a batch has a deadline a call. */
export function sharingTimers(timing: Timing): Timing {
  const due = new Map<number, { readonly works: Set<() => void>; readonly cancel: () => void }>();
  return {
    now: () => timing.now(),
    random: () => timing.random(),
    after(ms, work) {
      const atMs = timing.now() + ms;
      let timer = due.get(atMs);
      if (!timer) {
        const works = new Set<() => void>();
        const ring = () => {
          due.delete(atMs);
          for (const work of works) work();
        };
        timer = { works, cancel: timing.after(ms, ring) };
        due.set(atMs, timer);
      }
      const { works, cancel } = timer;
      works.add(work);
      return () => {
        if (!works.delete(work) || works.size > 0) return;
        cancel();
        due.delete(atMs);
      };
    },
  };
}

const FIRST_PAUSE_MS = 20;

/**
 * Calls until an answer comes or the deadline has passed, which holds for all tries together. What is tried again must
 * be safe to repeat: a call whose answer was lost may have done its work.
 * @throws the last error, or a DeadlineError.
 */
export async function callWithin<T>(deadlineMs: number, call: () => Promise<T>, timing: Timing): Promise<T> {
  const giveUpAtMs = timing.now() + deadlineMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
    const leftMs = giveUpAtMs - timing.now();
    if (leftMs <= 0) throw new DeadlineError("the deadline passed before the call");
    try {
      return await within(leftMs, call(), timing);
    } catch (error) {
      const jitteredMs = pauseMs * (0.5 + timing.random());
      if (!isRetryable(error) || timing.now() + jitteredMs >= giveUpAtMs) throw error;
      await new Promise<void>((resolve) => timing.after(jitteredMs, resolve));
    }
  }
}

export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

/** The answer, unless it takes longer. @throws DeadlineError */
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
 * What the runtime says of a call that failed: https://developers.cloudflare.com/durable-objects/best-practices/error-handling/
 * An object that was reset, by a deploy or a write that failed, starts again with the next call. One that is overloaded is
 * never asked again: that would keep it so.
 */
function isRetryable(error: unknown): boolean {
  const said = Object(error) as { retryable?: unknown; durableObjectReset?: unknown; overloaded?: unknown };
  return (said.retryable === true || said.durableObjectReset === true) && said.overloaded !== true;
}
