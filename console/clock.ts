/**
 * The service's time, on a machine whose own may be wrong. An answer that was dated to the second was written between
 * the sending of its request and its arrival; what that leaves possible becomes less with each.
 */
export class ServiceClock {
  #aheadMs = 0;

  hear(date: string | null, sentMs: number, receivedMs: number): void {
    const ms = Date.parse(date ?? "");
    if (Number.isNaN(ms)) return;
    this.#aheadMs = Math.min(Math.max(this.#aheadMs, ms - receivedMs), ms + 1_000 - sentMs);
  }

  now(): number {
    return Date.now() + this.#aheadMs;
  }
}
