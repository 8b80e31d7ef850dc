import { check, type LimitedLog, leavingsOf, longestInForceMs, type Verdict } from "../core/decide";
import type { Account } from "./account";
import type { Charge, Counter, ObjectVerdict, Question } from "./protocol";

/** The counters that a question asks about, by key. */
export interface OpenAccount {
  readonly account: Account;
  readonly counters: Counter[];
}

/** The counters of a question in the order asked, which is the order of the answer's standings, as they are at `atMs`. */
export function countersOf({ policy, counters }: Question, opened: readonly OpenAccount[], atMs: number): LimitedLog[] {
  return counters.map(({ layer, key, limits }) =>
    openAccountOf(key, opened).account.counter(policy, layer, limits, atMs),
  );
}

/** How the counters of a question stand, and what leaves them next if that is asked for. `verdict`: it is known how they stand. */
export function verdictOf(
  question: Question,
  opened: readonly OpenAccount[],
  atMs: number,
  verdict?: Verdict,
): ObjectVerdict {
  const { cost, cacheMs } = question;
  const counters = countersOf(question, opened, atMs);
  const standing = { ...(verdict ?? check(counters, cost, atMs)), atMs };
  return cacheMs === undefined ? standing : { ...standing, leavings: leavingsOf(counters, atMs, cacheMs) };
}

/** What was opened for a key. */
export function openAccountOf<O extends OpenAccount>(key: string, opened: readonly O[]): O {
  const found = opened.find(({ account }) => account.key === key);
  if (!found) throw new Error("a counter's account is not open");
  return found;
}

/**
 * For how long an event is kept: its id is remembered for the clock's margin longer than it is known, and no window in force,
 * be it of an override, may lose it.
 */
export function retainMsOf(
  { policy, windowMs }: Charge,
  { account, counters }: OpenAccount,
  atMs: number,
  clockMarginMs: number,
): number {
  const windows = counters.map(({ layer, limits }) => longestInForceMs(account.counter(policy, layer, limits, atMs)));
  return Math.max(windowMs + clockMarginMs, ...windows);
}
