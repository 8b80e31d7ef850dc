import { DurableObject } from "cloudflare:workers";
import type { KeyOverride, LayerLimits } from "../core/override";
import { setVersion } from "../fault";
import { DenialMemory } from "./denial-memory";
import { GroupCommit } from "./group-commit";
import { Ledger } from "./ledger";
import { decodeCalls, encodeResults } from "./message";
import type { Call, CallResult, Inspected, OverrideToSet } from "./protocol";
import { Store } from "./store/store";
import { CLOCK_MARGIN_MS } from "./sweep";
import { SWEEP_REST_MS, SweepAlarm } from "./sweep-alarm";

/**
 * The Durable Object: the calls, the clock and the alarm around a ledger. It holds the keys whose calls it gets. Each turn
 * decides and stores, and the output gate holds every answer until the turn's transaction is durable.
 */
export class LimiterObject extends DurableObject {
  protected readonly store: Store;
  protected ledger: Ledger;
  protected denials = new DenialMemory();
  readonly #alarm: SweepAlarm;
  readonly #group = new GroupCommit((calls) => this.#decideAll(calls));

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    setVersion((env as { CF_VERSION_METADATA?: WorkerVersionMetadata }).CF_VERSION_METADATA);
    this.store = new Store(ctx.storage);
    this.ledger = new Ledger(this.store);
    this.#alarm = new SweepAlarm(ctx.storage);
    ctx.blockConcurrencyWhile(() => this.#alarm.load());
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
    const inspected = this.denials.addTo(this.ledger.inspect(key, counters, most, nowMs), key, nowMs);
    this.#healAlarm(nowMs);
    return inspected;
  }

  overrideOf(key: string): KeyOverride | undefined {
    return this.ledger.overrideOf(key, this.now());
  }

  async forget(key: string): Promise<void> {
    this.ledger.forget(key);
    this.denials.forget(key);
    await this.#emptyOrHeal();
  }

  setOverride(key: string, override: OverrideToSet): KeyOverride {
    const nowMs = this.now();
    const set = this.ledger.setOverride(key, override, nowMs);
    this.#alarm.setSoon(Math.max(set.endsAtMs + CLOCK_MARGIN_MS, nowMs + SWEEP_REST_MS), nowMs);
    return set;
  }

  async liftOverride(key: string): Promise<void> {
    this.ledger.liftOverride(key, this.now());
    await this.#emptyOrHeal();
  }

  override async alarm(): Promise<void> {
    this.#alarm.beginSweep();
    const nowMs = this.now();
    const earliestMs = nowMs + SWEEP_REST_MS;
    let dueMs = earliestMs;
    try {
      dueMs = Math.max(earliestMs, (await this.#sweep()) ?? 0);
    } finally {
      // Even if the sweep fails: an object with rows needs an alarm.
      if (this.store.isEmpty) await this.#empty();
      else await this.#alarm.endSweep(dueMs, nowMs);
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
    this.#alarm.clear();
    await this.store.deleteAll();
  }

  async #emptyOrHeal(): Promise<void> {
    if (this.store.isEmpty) await this.#empty();
    else this.#healAlarm(this.now());
  }

  #decideAll(calls: readonly Call[]): CallResult[] {
    const nowMs = this.now();
    const results = this.ledger.decide(calls, nowMs);
    this.denials.begin(nowMs);
    calls.forEach((call, i) => void this.denials.remember(call, results[i]));
    this.#alarm.setFor(calls, results, nowMs);
    this.#healAlarm(nowMs);
    return results;
  }

  /** Any call sets the alarm of an object that died before it was set. */
  #healAlarm(nowMs: number): void {
    this.#alarm.heal(nowMs, () => this.store.hasTables);
  }
}
