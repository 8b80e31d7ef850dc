import { isSameCost, settledCost } from "../core/cost";
import { standingsOf } from "../core/decide";
import { longestWindowMs } from "../core/limit";
import type { KeyOverride, LayerLimits } from "../core/override";
import { Account } from "./account";
import { AccountCache, type MemoryBudget } from "./account-cache";
import { consume, rollBack } from "./charging";
import { EndedAttempts } from "./ended-attempts";
import type { PagedEvent } from "./event";
import { isInWindow } from "./holding";
import { cacheableVerdictOf, type OpenAccount } from "./open-account";
import { PAGE_CHARS } from "./page";
import type { PageRow, PageStore } from "./page-store";
import type {
  Call,
  CallResult,
  ChangeVerdict,
  Charge,
  ChargeVerdict,
  Counter,
  EventQuestion,
  Inspected,
  Method,
  ObjectVerdict,
  OverrideToSet,
  Question,
  VerdictOf,
} from "./protocol";
import { CLOCK_MARGIN_MS, sweepPages } from "./sweep";
import { TurnAccounts } from "./turn-accounts";

const DENIED = { allowed: false, replayed: false, conflicts: false, charged: false };

/**
 * The accounts of all keys in one object. Every method is one turn: it reads, decides and writes one transaction without
 * yielding. So no call ever sees another call half done.
 *
 * Memory is a cache. Storage is always complete, and an account that was dropped from memory is opened again from there.
 */
export class Ledger {
  readonly #accounts: AccountCache;
  readonly #turn: TurnAccounts;
  readonly #ended = new EndedAttempts();
  /** The last time used. Time never goes back here, whatever the machine's clock does. */
  #lastMs = 0;

  constructor(
    private readonly store: PageStore,
    memory?: MemoryBudget,
    pageChars = PAGE_CHARS,
    private readonly clockMarginMs = CLOCK_MARGIN_MS,
    mostEvents?: number,
  ) {
    this.#accounts = new AccountCache(memory);
    const newAccount = (key: string, pages: Iterable<PageRow>) =>
      new Account(store, key, pages, pageChars, clockMarginMs, mostEvents);
    this.#turn = new TurnAccounts(store, this.#accounts, newAccount);
  }

  /**
   * Decides all calls in their order and in one transaction, which writes each changed page once. If a call fails, each call
   * gets a transaction of its own, so that it fails alone.
   */
  decide(calls: readonly Call[], wallMs: number): CallResult[] {
    try {
      return this.#transact(() => {
        this.#turn.openAll(keysOf(calls));
        return calls.map((call) => ({ verdict: this.#decide(call, wallMs) }));
      });
    } catch (error) {
      if (calls.length === 1)
        return [{ error: error instanceof Error ? (error.stack ?? String(error)) : String(error) }];
      return calls.flatMap((call) => this.decide([call], wallMs));
    }
  }

  /** About how many bytes of memory the accounts take. */
  get weightBytes(): number {
    return this.#accounts.weightBytes;
  }

  /** How the counters of a key stand, in the order given, with the newest `most` events of each. */
  inspect(key: string, counters: readonly LayerLimits[], most: number, wallMs: number): Inspected[] {
    return this.#transact(() => {
      const { account, atMs } = this.#openKey(key, wallMs);
      if (account.isEmpty) return [];
      const override = account.overrideAt(atMs);
      const limited = counters.map(({ policy, layer, limits }) => account.counter(policy, layer, limits, 1, atMs));
      const windows = counters.map((counter, i) => ({
        ...counter,
        // Includes the counter's own limits, which are in force again once the override ends.
        windowMs: longestWindowMs([...counter.limits, ...(limited[i]?.override?.limits ?? [])]),
      }));
      const events = account.events(windows, most, atMs);
      return limited.map((counter, i) => ({
        standings: standingsOf(counter, atMs),
        ...(override && { override }),
        total: events[i]?.total ?? 0,
        events: events[i]?.events ?? [],
      }));
    });
  }

  /** Sets the override of a key, in place of its present override. */
  setOverride(key: string, { ends, ...override }: OverrideToSet, wallMs: number): KeyOverride {
    return this.#transact(() => {
      const { account, atMs } = this.#openKey(key, wallMs);
      const endsAtMs = "atMs" in ends ? ends.atMs : atMs + ends.inMs;
      return account.setOverride({ ...override, endsAtMs }, atMs);
    });
  }

  /** The override of a key that is in force. */
  overrideOf(key: string, wallMs: number): KeyOverride | undefined {
    return this.#transact(() => {
      const { account, atMs } = this.#openKey(key, wallMs);
      return account.overrideAt(atMs);
    });
  }

  liftOverride(key: string, wallMs: number): void {
    this.#transact(() => this.#openKey(key, wallMs).account.liftOverride());
  }

  /** Deletes all events of a key. The override of the key stays. */
  forget(key: string): void {
    this.#accounts.drop(key);
    this.store.deleteKey(key);
  }

  /**
   * Deletes the overrides that ended and the pages that expired before the clock's margin. Calls are decided between its
   * steps.
   *
   * Returns when to sweep next: when the next override ends, or at the mean expiry of the pages that are left. So most pages
   * are looked at only a few times, however many there are and however long they are kept. Undefined if nothing is left.
   */
  *sweep(wallMs: number): Generator<void, number | undefined> {
    // A time used, like that of a decision: no later decision may need what this sweep deletes.
    const beganMs = Math.max(this.#lastMs, wallMs);
    this.#lastMs = beganMs;
    const turn = this.store.newestTurn;
    while (this.store.checkpoint(turn)) yield;
    const sweptMs = beganMs - this.clockMarginMs;
    const ended = this.store.overrides.deleteEnded(sweptMs);
    for (const key of ended.keys) this.#accounts.drop(key);
    const meanExpiryMs = yield* sweepPages(this.store, beganMs, sweptMs, (key) => this.#accounts.drop(key));
    const next = [meanExpiryMs, ended.nextEndMs].filter((ms) => ms !== undefined);
    return next.length > 0 ? Math.min(...next) + this.clockMarginMs : undefined;
  }

  #decide(call: Call, wallMs: number): VerdictOf<Method> {
    if (call.method === "check") return this.#check(call.question, wallMs);
    if (call.method === "consume") return this.#consume(call.question, wallMs);
    if (call.method === "rollBack") return this.#rollBack(call.question, wallMs);
    if (call.method === "settle") return this.#settle(call.question, wallMs);
    if (call.method === "release") return this.#release(call.question, wallMs);
    throw new Error(`This version of the object does not know the call "${(call as Call).method}".`);
  }

  #check(question: Question, wallMs: number): ObjectVerdict {
    const { opened, atMs } = this.#open(question.counters, wallMs);
    return cacheableVerdictOf(question, opened, atMs);
  }

  #consume(charge: Charge, wallMs: number): ChargeVerdict {
    const { opened, atMs } = this.#open(charge.counters, wallMs);
    if (this.#ended.has(charge)) return { ...cacheableVerdictOf(charge, opened, atMs), ...DENIED };
    const verdict = consume(charge, opened, { atMs, marginMs: this.clockMarginMs });
    if (!verdict.allowed) this.#ended.end(charge);
    return verdict;
  }

  /** Returns how the counters stand after the rollback. */
  #rollBack(charge: Charge, wallMs: number): ObjectVerdict {
    const { opened, atMs } = this.#open(charge.counters, wallMs);
    rollBack(charge, opened);
    this.#ended.end(charge);
    return cacheableVerdictOf(charge, opened, atMs);
  }

  /** Sets the cost of an event in its counters, even above their limits: what is spent is spent. */
  #settle(question: EventQuestion, wallMs: number): ChangeVerdict {
    return this.#change(question, wallMs, (event) => {
      const { layers } = event.charged;
      const cost = settledCost(event.cost, question.cost, layers);
      return isSameCost(event.cost, cost, layers) ? event : { ...event, cost };
    });
  }

  /** Ends an event for concurrent limits, even if no counter has any: a concurrent limit may be declared later. */
  #release(question: EventQuestion, wallMs: number): ChangeVerdict {
    return this.#change(question, wallMs, (event) => (event.released ? event : { ...event, released: true }));
  }

  /**
   * Replaces each event of the id by `changed(event)`, in all of its keys. A key may have several: a fault may have left an
   * event, and a layer may have recorded an event before it changed modes.
   */
  #change(question: EventQuestion, wallMs: number, changed: (event: PagedEvent) => PagedEvent): ChangeVerdict {
    const { opened, atMs } = this.#open(question.counters, wallMs);
    const { id, identity, policy } = question;
    let found = false;
    for (const { account, counters } of opened) {
      const name = { id, identity, policy, counters };
      for (const located of account.findAll(name)) {
        if (located.event.charged.policy !== policy || !isInWindow(located, atMs)) continue;
        found = true;
        const next = changed(located.event);
        if (next !== located.event) account.change(located, next);
      }
    }
    return { ...cacheableVerdictOf({ ...question, cost: 1 }, opened, atMs), found };
  }

  /** Does the work and stores its changes, or does neither. */
  #transact<T>(work: () => T): T {
    try {
      const result = work();
      this.store.put(this.#turn.takeChanges());
      this.#turn.keepAll();
      this.#ended.conclude(true);
      return result;
    } catch (error) {
      this.#turn.dropAll();
      this.#ended.conclude(false);
      throw error;
    }
  }

  /** Opens the accounts of the counters. Returns them with the time of the decision. */
  #open(counters: readonly Counter[], wallMs: number): { opened: OpenAccount[]; atMs: number } {
    const opened: OpenAccount[] = [];
    for (const counter of counters) {
      const ofSameKey = opened.find(({ account }) => account.key === counter.key);
      if (ofSameKey) ofSameKey.counters.push(counter);
      else opened.push({ account: this.#turn.open(counter.key), counters: [counter] });
    }
    this.#lastMs = Math.max(this.#lastMs, wallMs, ...opened.map(({ account }) => account.newestMs));
    return { opened, atMs: this.#lastMs };
  }

  #openKey(key: string, wallMs: number): { account: Account; atMs: number } {
    const account = this.#turn.open(key);
    this.#lastMs = Math.max(this.#lastMs, wallMs, account.newestMs);
    return { account, atMs: this.#lastMs };
  }
}

function* keysOf(calls: readonly Call[]): Generator<string> {
  for (const { question } of calls) for (const { key } of question.counters) yield key;
}
