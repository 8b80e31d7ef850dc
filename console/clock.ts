/**
 * The service's time, on a machine whose own clock may be wrong. The service wrote the Date of an answer, exact to the
 * second, between the sending of the request and the arrival of the answer. Each answer narrows the possible difference.
 */
export class ServiceClock {
  #aheadMs = 0;

  adjust(date: string | null, sentMs: number, receivedMs: number): void {
    const ms = Date.parse(date ?? "");
    if (Number.isNaN(ms)) return;
    this.#aheadMs = Math.min(Math.max(this.#aheadMs, ms - receivedMs), ms + 1_000 - sentMs);
  }

  now(): number {
    return Date.now() + this.#aheadMs;
  }
}
