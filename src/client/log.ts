import type { LimiterError } from "./errors.js";

/** Logs a message and the error behind it, if there is one. */
export type Log = (message: string, error?: LimiterError) => void;

const REPEAT_MS = 60_000;
const MOST_MESSAGES = 100;

// Looked up at each call. Given "no error", the console would print "undefined".
const toConsole: Log = (message, error) => (error ? console.error(message, error) : console.error(message));

/** Logs the same message at most once a minute. */
export function oncePerMinute(log: Log = toConsole): Log {
  const loggedAtMs = new Map<string, number>();
  return (message, error) => {
    const nowMs = performance.now();
    const lastMs = loggedAtMs.get(message);
    if (lastMs !== undefined && nowMs - lastMs < REPEAT_MS) return;
    // Bounded: messages have names of policies, which may come from a user.
    if (loggedAtMs.size >= MOST_MESSAGES) loggedAtMs.clear();
    loggedAtMs.set(message, nowMs);
    log(message, error);
  };
}
