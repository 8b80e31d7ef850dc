import { logFault } from "../fault";
import type { Timing } from "../objects/timing";
import type { Sums } from "./protocol";

/** The least time from one send to the next. */
const SEND_EVERY_MS = 10_000;
const LONGEST_PAUSE_MS = 300_000;
/** Half as long as an object remembers whose sums it has: see `senders.ts`. */
const RESEND_FOR_MS = 1_800_000;

interface SentSums {
  readonly sums: Sums;
  readonly sinceMs: number;
}

/**
 * Sends the sums of an isolate, one after the other. Sums that were not acknowledged may have been counted: they are sent
 * again as they are, under the same id, before any others. So memory is bounded while sending fails, by two sums.
 */
export class Outbox {
  readonly #sender: string;
  #sequence = 0;
  #unacknowledged: SentSums | undefined;
  #failures = 0;
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(
    /** Takes what is to be sent next. Undefined if that is nothing. */
    private readonly take: () => Sums | undefined,
    private readonly deliver: (sums: Sums) => Promise<void>,
    private readonly onDelivered: (sums: Sums) => void,
    private readonly timing: Timing,
  ) {
    this.#sender = timing.random().toString(36).slice(2);
  }

  /** From when on the next sums are to be sent. */
  get dueMs(): number {
    return this.#dueMs;
  }

  get isEmpty(): boolean {
    return this.#unacknowledged === undefined;
  }

  /** Forgets what is not acknowledged. */
  clear(): void {
    this.#unacknowledged = undefined;
  }

  /** Sends what is not acknowledged, and what was counted since. Several requests may send at once. Never throws. */
  async send(): Promise<void> {
    this.#dueMs = this.timing.now() + this.#jittered(SEND_EVERY_MS);
    const before = this.#unacknowledged;
    if (before && !(await this.#send(before))) return;
    // Another request may have taken some meanwhile.
    this.#unacknowledged ??= this.#taken();
    if (this.#unacknowledged) await this.#send(this.#unacknowledged);
  }

  #taken(): SentSums | undefined {
    const sums = this.take();
    if (!sums) return undefined;
    const id = { sender: this.#sender, sequence: ++this.#sequence };
    return { sums: { ...sums, id }, sinceMs: this.timing.now() };
  }

  /** Resolves with whether the sums were acknowledged. */
  async #send(sent: SentSums): Promise<boolean> {
    try {
      await this.deliver(sent.sums);
    } catch (error) {
      this.#onFailure(sent, error);
      return false;
    }
    this.#failures = 0;
    // Several requests may have sent the same sums.
    if (this.#unacknowledged !== sent) return true;
    this.#unacknowledged = undefined;
    this.onDelivered(sent.sums);
    return true;
  }

  #onFailure(sent: SentSums, error: unknown): void {
    const nowMs = this.timing.now();
    const pauseMs = Math.min(LONGEST_PAUSE_MS, SEND_EVERY_MS * 2 ** this.#failures++);
    this.#dueMs = nowMs + this.#jittered(pauseMs);
    if (this.#unacknowledged === sent && nowMs - sent.sinceMs > RESEND_FOR_MS) {
      // An object may soon have forgotten them, and would count them twice.
      this.#unacknowledged = undefined;
      logFault("counts_given_up", error);
    } else logFault("counts_not_sent", error);
  }

  /** Isolates that failed together do not come back together. */
  #jittered(ms: number): number {
    return ms * (0.75 + this.timing.random() / 2);
  }
}
