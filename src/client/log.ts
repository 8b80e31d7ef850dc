import type { LimiterError } from "./errors.js";

/** Takes a line for whoever runs the application, and the error behind it, if there is one. */
export type Log = (message: string, error?: LimiterError) => void;

const REPEAT_MS = 60_000;
const MOST_MESSAGES = 100;

/** Says the same thing once a minute, however many requests it concerns. */
export function oncePerMinute(log: Log): Log {
  const saidAtMs = new Map<string, number>();
  return (message, error) => {
    const nowMs = performance.now();
    const lastMs = saidAtMs.get(message);
    if (lastMs !== undefined && nowMs - lastMs < REPEAT_MS) return;
    // A policy's name may come from anywhere.
    if (saidAtMs.size >= MOST_MESSAGES) saidAtMs.clear();
    saidAtMs.set(message, nowMs);
    log(message, error);
  };
}
