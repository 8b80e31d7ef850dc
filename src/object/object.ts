import { DurableObject } from "cloudflare:workers";
import type { KeyOverride, LayerLimits } from "../core/override";
import { GroupCommit } from "./group-commit";
import { Ledger } from "./ledger";
import { decodeCalls, encodeResults } from "./message";
import type { Call, CallResult, Inspected, OverrideToSet } from "./protocol";
import { Store } from "./store/store";
import { CLOCK_MARGIN_MS } from "./sweep";

/** Until the next sweep at least: forgetting is cheap while it is rare, and each alarm is billed. */
const SWEEP_REST_MS = 3_600_000;

/** An alarm that is overdue by so much was lost, and does not ring any more. */
const ALARM_LOST_AFTER_MS = 600_000;

/**
 * The Durable Object: the calls, the clock and the alarm around a ledger. Which keys it holds is decided by whoever
 * routes to it. What a call decides is decided and stored in one turn, and the output gate holds every answer until
 * what it says is durable.
 */
export class LimiterObject extends DurableObject {
  protected readonly store: Store;
  protected ledger: Ledger;
  /** Whenever pages or overrides are stored there is an alarm, which sweeps out those that have expired. */
  #alarmAtMs: number | null = null;
  readonly #group = new GroupCommit((calls) => this.#decideAll(calls));

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    this.store = new Store(ctx.storage);
    this.ledger = new Ledger(this.store);
    // Known before the first call is answered, so that a woken object writes no second alarm (a row each).
    ctx.blockConcurrencyWhile(async () => {
      this.#alarmAtMs = await ctx.storage.getAlarm();
    });
  }

  /** The object's own time: a clock for tests is put in its place where there is one. */
  protected now(): number {
    return Date.now();
  }

  /** Decides calls together with all that arrive at the same time. Calls and results are text (`message.ts`). */
  async decide(calls: string): Promise<string> {
    return encodeResults(await this.#group.add(decodeCalls(calls)));
  }

  inspect(key: string, asked: readonly LayerLimits[], most: number): Inspected[] {
    return this.ledger.inspect(key, asked, most, this.now());
  }

  async forget(key: string): Promise<void> {
    this.ledger.forget(key);
    if (this.store.isEmpty) await this.#empty();
  }

  setOverride(key: string, override: OverrideToSet): KeyOverride {
    const nowMs = this.now();
    const set = this.ledger.setOverride(key, override, nowMs);
    this.#sweepSoon(Math.max(set.endsAtMs + CLOCK_MARGIN_MS, nowMs + SWEEP_REST_MS), nowMs);
    return set;
  }

  async liftOverride(key: string): Promise<void> {
    this.ledger.liftOverride(key, this.now());
    if (this.store.isEmpty) await this.#empty();
  }

  override async alarm(): Promise<void> {
    // This alarm has rung. Calls that are decided while the sweep pauses set their own: the sweep may not know of them.
    this.#alarmAtMs = null;
    const nowMs = this.now();
    const restedMs = nowMs + SWEEP_REST_MS;
    // Also when the sweep fails: an object must never be left with rows and without an alarm.
    let next = restedMs;
    try {
      next = Math.max(restedMs, (await this.#sweep()) ?? 0);
    } finally {
      if (this.store.isEmpty) await this.#empty();
      else await this.#sweepBy(next, nowMs);
    }
  }

  async #sweep(): Promise<number | undefined> {
    const steps = this.ledger.sweep(this.now());
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
      await scheduler.wait(0);
    }
  }

  /** An empty object occupies storage until all of it is deleted, the alarm included. */
  async #empty(): Promise<void> {
    this.#alarmAtMs = null;
    await this.store.deleteAll();
  }

  #decideAll(calls: readonly Call[]): CallResult[] {
    const nowMs = this.now();
    const results = this.ledger.decide(calls, nowMs);
    calls.forEach(({ method, question }, i) => {
      const result = results[i];
      if (method === "consume" && result && "verdict" in result && result.verdict.allowed)
        // The id is remembered for the margin, and what has expired is kept for it.
        this.#sweepSoon(result.verdict.atMs + Math.max(question.windowMs + 2 * CLOCK_MARGIN_MS, SWEEP_REST_MS), nowMs);
    });
    return results;
  }

  /** Not awaited: it belongs to the same transaction as the writes of this turn, and the output gate waits for both. */
  #sweepSoon(dueMs: number, nowMs: number): void {
    this.#sweepBy(dueMs, nowMs).catch((error: unknown) =>
      console.error("The alarm could not be set; the next turn tries again.", error),
    );
  }

  /** Sets the alarm, unless one is set that rings no later. One that can't be set counts as none. */
  async #sweepBy(dueMs: number, nowMs: number): Promise<void> {
    const setMs = this.#alarmAtMs ?? Number.NEGATIVE_INFINITY;
    if (setMs <= dueMs && nowMs < setMs + ALARM_LOST_AFTER_MS) return;
    this.#alarmAtMs = dueMs;
    try {
      await this.ctx.storage.setAlarm(dueMs);
    } catch (error) {
      this.#alarmAtMs = null;
      throw error;
    }
  }
}
