import { logFault } from "../fault";
import type { Call, CallResult } from "./protocol";
import { CLOCK_MARGIN_MS } from "./sweep";

/** The least time between two sweeps. Each alarm is billed. */
export const SWEEP_REST_MS = 3_600_000;

/** An alarm that is overdue by this much was lost, and does not ring any more. */
const LOST_AFTER_MS = 600_000;

/** The object's storage, as its alarm needs it. */
export interface AlarmStorage {
  getAlarm(): Promise<number | null>;
  setAlarm(atMs: number): Promise<void>;
  /** Resolves once everything that was written is durable. Answers that wait for it leave first. */
  sync(): Promise<void>;
}

/**
 * The object's alarm, which rings for the next sweep. An object with rows has one, or sets one once it is called again.
 *
 * Where a transaction sets an alarm for the first time, or an earlier one, the runtime commits it only after a round trip to
 * an alarm manager (`commitImpl` in workerd's actor-sqlite.c++), and every answer waits. So the alarm is set once the
 * answers of the turn have left. If the object dies in between, its rows have no alarm until it is called again.
 */
export class SweepAlarm {
  #atMs: number | null = null;
  /** When to ring, while the alarm waits for answers to leave. */
  #waitingDueMs: number | undefined;
  /** The sweep sets the next alarm when it ends. */
  #isSweeping = false;

  constructor(private readonly storage: AlarmStorage) {}

  /** Reads the alarm, so that a woken object does not set it again: each one writes a row. */
  async load(): Promise<void> {
    this.#atMs = await this.storage.getAlarm();
  }

  /** Sets the alarm soon, unless one is set that rings no later. If it can't be set, the next turn tries again. */
  setSoon(dueMs: number, nowMs: number): void {
    if (this.#ringsBy(dueMs, nowMs)) return;
    const isWaiting = this.#waitingDueMs !== undefined;
    this.#waitingDueMs = Math.min(dueMs, this.#waitingDueMs ?? Number.POSITIVE_INFINITY);
    if (!isWaiting) void this.#setLater(nowMs);
  }

  /** Sets the alarm for the events that a turn has recorded. */
  setFor(calls: readonly Call[], results: readonly CallResult[], nowMs: number): void {
    for (const [i, { method, question }] of calls.entries()) {
      const result = results[i];
      if (method !== "consume" || !result || !("verdict" in result) || !result.verdict.allowed) continue;
      // The event is kept for one margin after its window, and its page for another one after its expiry.
      const restMs = Math.max(question.windowMs + 2 * CLOCK_MARGIN_MS, SWEEP_REST_MS);
      this.setSoon(result.verdict.atMs + restMs, nowMs);
    }
  }

  /** Sets an alarm soon if the object needs one and has none: it may have died before it was set, or the alarm was lost. */
  heal(nowMs: number, isNeeded: () => boolean): void {
    if (this.#isSweeping || this.#waitingDueMs !== undefined || this.#ringsBy(Number.POSITIVE_INFINITY, nowMs)) return;
    try {
      if (isNeeded()) this.setSoon(nowMs + SWEEP_REST_MS, nowMs);
    } catch (error) {
      logFault("alarm_not_set", error, { of: "object" });
    }
  }

  /** The alarm has rung. Calls between the sweep's steps set an alarm of their own: the sweep may miss their pages. */
  beginSweep(): void {
    this.#atMs = null;
    this.#isSweeping = true;
  }

  /** Sets the next alarm, unless one is set that rings no later. */
  async endSweep(dueMs: number, nowMs: number): Promise<void> {
    this.#isSweeping = false;
    await this.#set(dueMs, nowMs);
  }

  /** The object has deleted everything, its alarm included. */
  clear(): void {
    this.#atMs = null;
    this.#waitingDueMs = undefined;
    this.#isSweeping = false;
  }

  async #setLater(nowMs: number): Promise<void> {
    try {
      await this.storage.sync();
      const dueMs = this.#waitingDueMs;
      this.#waitingDueMs = undefined;
      if (dueMs !== undefined) await this.#set(dueMs, nowMs);
    } catch (error) {
      this.#waitingDueMs = undefined;
      logFault("alarm_not_set", error, { of: "object" });
    }
  }

  async #set(dueMs: number, nowMs: number): Promise<void> {
    if (this.#ringsBy(dueMs, nowMs)) return;
    this.#atMs = dueMs;
    try {
      await this.storage.setAlarm(dueMs);
    } catch (error) {
      this.#atMs = null;
      throw error;
    }
  }

  #ringsBy(dueMs: number, nowMs: number): boolean {
    return this.#atMs !== null && this.#atMs <= dueMs && nowMs < this.#atMs + LOST_AFTER_MS;
  }
}
