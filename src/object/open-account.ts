import { assert } from "../core/assert";
import { costIn } from "../core/cost";
import { check, type LimitedLog, leavingsOf, longestInForceMs } from "../core/decide";
import type { Account } from "./account";
import type { Charge, Counter, ObjectVerdict, Question } from "./protocol";

/** An account that is open, and the counters of the question that it holds. */
export interface OpenAccount {
  readonly account: Account;
  readonly counters: Counter[];
}

/** The counters of a question as they are at `atMs`, in the question's order, which is that of the verdict's standings. */
export function countersOf(question: Question, opened: readonly OpenAccount[], atMs: number): LimitedLog[] {
  const { policy, cost, counters } = question;
  return counters.map(({ layer, key, limits }) =>
    openAccountOf(key, opened).account.counter(policy, layer, limits, costIn(cost, layer), atMs),
  );
}

/** How the counters of a question stand, with the leavings if it has `cacheMs`: a denial may be cached. */
export function cacheableVerdictOf(question: Question, opened: readonly OpenAccount[], atMs: number): ObjectVerdict {
  const verdict = verdictOf(question, opened, atMs);
  const { cacheMs } = question;
  if (cacheMs === undefined) return verdict;
  return { ...verdict, leavings: leavingsOf(countersOf(question, opened, atMs), atMs, cacheMs) };
}

/** How the counters of a question stand. */
export function verdictOf(question: Question, opened: readonly OpenAccount[], atMs: number): ObjectVerdict {
  return { ...check(countersOf(question, opened, atMs), atMs), atMs };
}

export function openAccountOf<O extends OpenAccount>(key: string, opened: readonly O[]): O {
  const found = opened.find(({ account }) => account.key === key);
  assert(found !== undefined, "a counter's account is open");
  return found;
}

/**
 * Retention of a new event. It covers every window in force, those of an override included. The id is kept for the clock's
 * margin longer than it is known.
 */
export function retainMsOf(
  { policy, cost, windowMs }: Charge,
  { account, counters }: OpenAccount,
  atMs: number,
  clockMarginMs: number,
): number {
  let retainMs = windowMs + clockMarginMs;
  for (const { layer, limits } of counters)
    retainMs = Math.max(retainMs, longestInForceMs(account.counter(policy, layer, limits, costIn(cost, layer), atMs)));
  return retainMs;
}
