import { UnavailableError } from "./errors.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
const SHORTEST_ATTEMPT_MS = 100;

/**
 * Retries until an attempt succeeds or the deadline of all attempts has passed. An attempt that throws UnavailableError
 * is retried with back-off. It must be safe to repeat: it may have done its work even if its response was lost.
 *
 * An attempt gets half of the time that is left, so that a lost packet does not cost all of it. It gets that time in ms,
 * and must end by itself then, or as soon as `signal` is aborted.
 * @throws UnavailableError of the last attempt that said something about the subject, else of the last attempt. Any other
 * error of an attempt at once. The reason of `signal` as soon as it is aborted.
 */
export async function tryWithin<T>(
  deadlineMs: number,
  signal: AbortSignal | undefined,
  attempt: (ms: number, nth: number) => Promise<T>,
): Promise<T> {
  // Monotonic, unlike `Date.now()`.
  const giveUpAtMs = performance.now() + deadlineMs;
  let pauseMs = FIRST_PAUSE_MS;
  let lastAboutSubject: UnavailableError | undefined;
  // Ends by the deadline.
  for (let nth = 1; ; nth++) {
    const leftMs = giveUpAtMs - performance.now();
    const attemptMs = Math.min(leftMs, Math.max(leftMs / 2, SHORTEST_ATTEMPT_MS));
    try {
      signal?.throwIfAborted();
      return await attempt(attemptMs, nth);
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      // The last attempt may be too short for a response: an earlier 503 of the service says more than its timeout.
      if (error.isAboutSubject) lastAboutSubject = error;
      const waitMs = Math.max(pauseMs * (0.5 + Math.random()), error.retryAfterMs);
      if (performance.now() + waitMs >= giveUpAtMs) throw lastAboutSubject ?? error;
      await pause(waitMs, signal);
      // The pause may have taken longer than planned.
      if (!signal?.aborted && performance.now() >= giveUpAtMs) throw lastAboutSubject ?? error;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}

/** Aborts an attempt by its signal after `ms`, and does not wait for it to end. */
export async function within<T>(
  ms: number,
  signal: AbortSignal | undefined,
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const abort = new AbortController();
  const timeout = pause(ms, signal, abort.signal).then((): never => {
    signal?.throwIfAborted();
    throw new UnavailableError(`no answer within ${Math.round(ms)} ms`);
  });
  try {
    return await Promise.race([attempt(abort.signal), timeout]);
  } finally {
    abort.abort();
  }
}

/**
 * Waits for work until the signal is aborted, and then throws its reason. The work goes on, and `onMissed` gets its
 * failure.
 */
export async function waitUnlessAborted<T>(
  signal: AbortSignal | undefined,
  work: Promise<T>,
  onMissed: (error: unknown) => void,
): Promise<T> {
  if (!signal) return work;
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort);
  });
  aborted.catch(() => work.catch(onMissed));
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Waits for `ms`, or until one of the signals is aborted. */
export function pause(ms: number, ...signals: (AbortSignal | undefined)[]): Promise<void> {
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
