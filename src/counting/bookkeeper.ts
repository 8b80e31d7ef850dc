import { logFault } from "../fault";
import { Book } from "./book";
import type { Recent, Sums, Totals } from "./protocol";
import type { StatsStore } from "./stats-store";

/** The least time between two writes of sums that arrive: written rows are billed, and no decision needs what a crash loses. */
const WRITE_REST_MS = 10_000;
/** An object that is idle for ten seconds leaves memory. The alarm has what is there written before. */
const ALARM_MS = 8_000;
/** After this time without counts, all minutes and hours are more than a day old. */
const FORGET_AFTER_MS = 25 * 3_600_000;

/** The object's own time, and its only alarm. */
export interface Clock {
  now(): number;
  setAlarm(atMs: number): void;
}

/**
 * Keeps a book of counts: in memory at once, on disk within ten seconds. It has no timer, which would keep the object from
 * resting: sums that arrive are written when the last write is ten seconds old, and the alarm writes those after which
 * none arrive.
 */
export class Bookkeeper {
  readonly #book: Book;
  #triedAtMs = Number.NEGATIVE_INFINITY;
  /** When the alarm rings that writes. */
  #alarmAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly store: StatsStore,
    private readonly clock: Clock,
  ) {
    this.#book = new Book(store);
  }

  add(sums: Sums): void {
    const nowMs = this.clock.now();
    this.#book.add(sums, nowMs);
    if (!this.#book.isUnwritten) return;
    // A clock may go back.
    const isRested = nowMs >= this.#triedAtMs + WRITE_REST_MS || nowMs < this.#triedAtMs;
    if (isRested && this.#tryToWrite(nowMs)) return;
    if (nowMs >= this.#alarmAtMs) this.#wakeIn(ALARM_MS, nowMs);
  }

  /** Writes what is only in memory. */
  write(): void {
    if (this.#book.isUnwritten) this.#write(this.clock.now());
  }

  recent(minutes: number): Recent {
    return this.#book.recent(minutes, this.clock.now());
  }

  /** Writes first: a total that was shown, and then lost in a crash, would be a counter that goes down. */
  totals(): Totals {
    this.write();
    return this.#book.totals(this.clock.now());
  }

  /** Writes, or forgets the day when no counts arrive any more. Rows of minutes and hours always come with an alarm. */
  onAlarm(): void {
    const nowMs = this.clock.now();
    this.#alarmAtMs = Number.NEGATIVE_INFINITY;
    if (this.#book.isUnwritten) {
      this.#tryToWrite(nowMs);
      // More sums are likely to come. One alarm in advance costs less than one put off with each of them.
      this.#wakeIn(ALARM_MS, nowMs);
    } else if (nowMs < this.#book.lastMs + FORGET_AFTER_MS) this.clock.setAlarm(this.#book.lastMs + FORGET_AFTER_MS);
    else this.store.deleteDays();
  }

  /** A failed write must not fail the call that adds: its sums are in memory, and written later. */
  #tryToWrite(nowMs: number): boolean {
    try {
      this.#write(nowMs);
      return true;
    } catch (error) {
      logFault("counts_not_written", error);
      return false;
    }
  }

  #write(nowMs: number): void {
    this.#triedAtMs = nowMs;
    // Before the rows: rows without an alarm would never be deleted, and an alarm without rows does no harm.
    if (!this.store.hasDays && nowMs >= this.#alarmAtMs) this.clock.setAlarm(this.#book.lastMs + FORGET_AFTER_MS);
    this.#book.write();
  }

  #wakeIn(ms: number, nowMs: number): void {
    this.#alarmAtMs = nowMs + ms;
    this.clock.setAlarm(this.#alarmAtMs);
  }
}
