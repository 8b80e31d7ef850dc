import { DurableObject } from "cloudflare:workers";
import type { KeyOverride, LayerLimits } from "../core/override";
import { logFault, setVersion } from "../fault";
import { DenialMemory } from "./denial-memory";
import { GroupCommit } from "./group-commit";
import { Ledger } from "./ledger";
import { decodeCalls, encodeResults } from "./message";
import type { Call, CallResult, Inspected, OverrideToSet } from "./protocol";
import { Store } from "./store/store";
import { CLOCK_MARGIN_MS } from "./sweep";

/** The least time between two sweeps. Each alarm is billed. */
const SWEEP_REST_MS = 3_600_000;

/** An alarm that is overdue by this much was lost, and does not ring any more. */
const ALARM_LOST_AFTER_MS = 600_000;

/**
 * The Durable Object: the calls, the clock and the alarm around a ledger. It holds the keys whose calls it gets. Each turn
 * decides and stores, and the output gate holds every answer until the turn's transaction is durable.
 */
export class LimiterObject extends DurableObject {
  protected readonly store: Store;
  protected ledger: Ledger;
  protected denials = new DenialMemory();
  /** While anything is stored, an alarm is set for the next sweep. */
  #alarmAtMs: number | null = null;
  readonly #group = new GroupCommit((calls) => this.#decideAll(calls));

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    setVersion((env as { CF_VERSION_METADATA?: WorkerVersionMetadata }).CF_VERSION_METADATA);
    this.store = new Store(ctx.storage);
    this.ledger = new Ledger(this.store);
    // Read before the first call, so that a woken object does not set an alarm again: each one writes a row.
    ctx.blockConcurrencyWhile(async () => {
      this.#alarmAtMs = await ctx.storage.getAlarm();
    });
  }

  /** The object's own time. The test clock overrides this. */
  protected now(): number {
    return Date.now();
  }

  /** Takes calls and returns their results, both as text (`message.ts`). Calls that arrive at the same time share a turn. */
  async decide(calls: string): Promise<string> {
    return encodeResults(await this.#group.add(decodeCalls(calls)));
  }

  inspect(key: string, counters: readonly LayerLimits[], most: number): Inspected[] {
    const nowMs = this.now();
    return this.denials.addTo(this.ledger.inspect(key, counters, most, nowMs), key, nowMs);
  }

  overrideOf(key: string): KeyOverride | undefined {
    return this.ledger.overrideOf(key, this.now());
  }

  async forget(key: string): Promise<void> {
    this.ledger.forget(key);
    this.denials.forget(key);
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
    // This alarm has rung. Calls between the sweep's steps set an alarm of their own: the sweep may miss their pages.
    this.#alarmAtMs = null;
    const nowMs = this.now();
    const earliestMs = nowMs + SWEEP_REST_MS;
    let dueMs = earliestMs;
    try {
      dueMs = Math.max(earliestMs, (await this.#sweep()) ?? 0);
    } finally {
      // Even if the sweep fails: an object with rows must always have an alarm.
      if (this.store.isEmpty) await this.#empty();
      else await this.#sweepBy(dueMs, nowMs);
    }
  }

  async #sweep(): Promise<number | undefined> {
    const steps = this.ledger.sweep(this.now());
    let step = steps.next();
    while (!step.done) {
      await scheduler.wait(0);
      step = steps.next();
    }
    return step.value;
  }

  /** Deletes everything, the alarm included: until then even an empty object occupies storage. */
  async #empty(): Promise<void> {
    this.#alarmAtMs = null;
    await this.store.deleteAll();
  }

  #decideAll(calls: readonly Call[]): CallResult[] {
    const nowMs = this.now();
    const results = this.ledger.decide(calls, nowMs);
    this.denials.begin(nowMs);
    calls.forEach((call, i) => {
      const { method, question } = call;
      const result = results[i];
      this.denials.remember(call, result);
      if (method === "consume" && result && "verdict" in result && result.verdict.allowed)
        // The event is kept for one margin after its window, and its page for another one after its expiry.
        this.#sweepSoon(result.verdict.atMs + Math.max(question.windowMs + 2 * CLOCK_MARGIN_MS, SWEEP_REST_MS), nowMs);
    });
    return results;
  }

  /** Needs no await: the alarm belongs to the transaction of this turn, and the output gate waits for both. */
  #sweepSoon(dueMs: number, nowMs: number): void {
    this.#sweepBy(dueMs, nowMs).catch((error: unknown) => logFault("alarm_not_set", error, { of: "object" }));
  }

  /** Sets the alarm, unless an alarm is set that rings no later. If it can't be set, the next turn tries again. */
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
