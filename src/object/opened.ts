import { type Counter, check, leavingsOf, longestInForceMs, type Verdict } from "../core/decide";
import type { Account } from "./account";
import type { Answer, AskedCounter, Charge, Question } from "./protocol";

/** The counters that a question asks about, by key. */
export interface Opened {
  readonly account: Account;
  readonly counters: AskedCounter[];
}

/** The counters of a question in the order asked, which is the order of the answer's standings, as they are at `atMs`. */
export function countersOf({ policy, counters }: Question, opened: readonly Opened[], atMs: number): Counter[] {
  return counters.map(({ layer, key, limits }) => openedOf(key, opened).account.counter(policy, layer, limits, atMs));
}

/** How the counters of a question stand, and what leaves them next if that is asked for. `verdict`: it is known how they stand. */
export function standingOf(question: Question, opened: readonly Opened[], atMs: number, verdict?: Verdict): Answer {
  const { cost, believeMs } = question;
  const counters = countersOf(question, opened, atMs);
  const standing = { ...(verdict ?? check(counters, cost, atMs)), atMs };
  return believeMs === undefined ? standing : { ...standing, leavings: leavingsOf(counters, atMs, believeMs) };
}

/** What was opened for a key. */
export function openedOf<O extends Opened>(key: string, opened: readonly O[]): O {
  const found = opened.find(({ account }) => account.key === key);
  if (!found) throw new Error("a counter's account is not open");
  return found;
}

/**
 * For how long an event is kept: its id is remembered for the clock's margin longer than it is known, and no window in force,
 * be it of an override, may lose it.
 */
export function retainMsOf(
  { policy, keepMs }: Charge,
  { account, counters }: Opened,
  atMs: number,
  clockMarginMs: number,
): number {
  const windows = counters.map(({ layer, limits }) => longestInForceMs(account.counter(policy, layer, limits, atMs)));
  return Math.max(keepMs + clockMarginMs, ...windows);
}
