import { UnavailableError } from "./errors.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
const SHORTEST_ATTEMPT_MS = 100;

/**
 * Tries until an answer comes or the deadline has passed, which holds for all tries together. A try that throws
 * UnavailableError is followed by another, so it must be safe to repeat: one whose answer was lost may have done its work.
 *
 * A try gets half of the time that is left: a packet that was lost must not cost the whole of it.
 * @throws UnavailableError of the last try that the service itself answered, else of the last try, what else a try throws, or the reason of `signal` as soon as it is aborted.
 */
export async function tryWithin<T>(
  deadlineMs: number,
  signal: AbortSignal | undefined,
  attempt: (signal: AbortSignal, nth: number) => Promise<T>,
): Promise<T> {
  // Unlike the time of day, this clock is never set back.
  const giveUpAtMs = performance.now() + deadlineMs;
  let pauseMs = FIRST_PAUSE_MS;
  let told: UnavailableError | undefined;
  for (let nth = 1; ; nth++) {
    const leftMs = giveUpAtMs - performance.now();
    const attemptMs = Math.min(leftMs, Math.max(leftMs / 2, SHORTEST_ATTEMPT_MS));
    try {
      return await within(attemptMs, signal, (signal) => attempt(signal, nth));
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      // The last try may be too short for an answer: its silence says less than an earlier answer.
      if (error.isFromService) told = error;
      const waitMs = Math.max(pauseMs * (0.5 + Math.random()), error.retryAfterMs);
      if (performance.now() + waitMs >= giveUpAtMs) throw told ?? error;
      await pause(waitMs, signal);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}

/** One try, which is told to end by its signal, and not waited for if it doesn't. */
async function within<T>(
  ms: number,
  signal: AbortSignal | undefined,
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const over = new AbortController();
  const silence = pause(ms, signal, over.signal).then((): never => {
    signal?.throwIfAborted();
    throw new UnavailableError(`no answer within ${Math.round(ms)} ms`);
  });
  try {
    return await Promise.race([attempt(over.signal), silence]);
  } finally {
    over.abort();
  }
}

/**
 * Waits for work that goes on when the signal ends the wait with its reason. A failure that nobody waited for is told to
 * `missed`.
 */
export async function waitUnlessAborted<T>(
  signal: AbortSignal | undefined,
  work: Promise<T>,
  missed: (error: unknown) => void,
): Promise<T> {
  if (!signal) return work;
  let leave = () => {};
  const left = new Promise<never>((_, reject) => {
    leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave);
  });
  left.catch(() => work.catch(missed));
  try {
    return await Promise.race([work, left]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/** Ends after `ms`, or as soon as one of the signals is aborted. */
function pause(ms: number, ...signals: (AbortSignal | undefined)[]): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      for (const signal of signals) signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signals.some((signal) => signal?.aborted)) end();
    for (const signal of signals) signal?.addEventListener("abort", end);
  });
}
