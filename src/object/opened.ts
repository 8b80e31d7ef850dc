import { type Counter, keptMs } from "../core/decide";
import type { Account } from "./account";
import type { AskedCounter, Charge, Question } from "./protocol";

/** The counters that a question asks about, by key. */
export interface Opened {
  readonly account: Account;
  readonly counters: AskedCounter[];
}

/** The counters of a question in the order asked, which is the order of the answer's standings, as they are at `atMs`. */
export function countersOf({ policy, counters }: Question, opened: readonly Opened[], atMs: number): Counter[] {
  return counters.map(({ layer, key, limits }) => accountOf(key, opened).counter(policy, layer, limits, atMs));
}

function accountOf(key: string, opened: readonly Opened[]): Account {
  const found = opened.find(({ account }) => account.key === key);
  if (!found) throw new Error("a counter's account is not open");
  return found.account;
}

/** For how long an event is kept: limits that override the policy's may have longer windows, which must see it too. */
export function keepMsOf({ policy, keepMs }: Charge, { account, counters }: Opened, atMs: number): number {
  if (!account.overrideAt(atMs)) return keepMs;
  const kept = counters.map(({ layer, limits }) => keptMs(account.counter(policy, layer, limits, atMs)));
  return Math.max(keepMs, ...kept);
}
