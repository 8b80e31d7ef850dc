import type { ChangeVerdict, EventQuestion, ObjectVerdict, Question } from "../object/protocol";
import type { BatchOrder } from "./batch-order";
import type { Hearer } from "./calls";
import { Consume } from "./consume";
import type { Timing } from "./deadline";
import type { DenialCache } from "./denial-cache";
import type { FanOut } from "./fan-out";
import { type Asker, type ConsumeQuestion, type ConsumeVerdict, keysOf } from "./objects";

/** The objects of the live layers, behind the denial cache and, in a batch, in the order of the batch. */
export class LiveObjects {
  constructor(
    readonly fanOut: FanOut,
    readonly cache: DenialCache,
    readonly timing: Timing,
    readonly order: BatchOrder | undefined,
  ) {}

  /** Would the objects admit the cost now? Records nothing, and never uses the denial cache. */
  check(question: Question, asker: Asker): Promise<ObjectVerdict> {
    const ask = () => this.fanOut.check(question, asker);
    return this.order ? this.order.check(asker.position, question, asker.giveUpAtMs, ask) : ask();
  }

  /** Records the cost in all counters, or in none. A consume that was denied a moment ago is answered without asking. */
  consume(question: ConsumeQuestion, isNew: boolean, asker: Asker, hearer: Hearer<ConsumeVerdict>): void {
    new Consume(this, question, asker, hearer).begin(isNew);
  }

  /**
   * Sets the cost of an event, or ends it for concurrent limits. That may make room. So it invalidates cached denials
   * before, for later calls of a batch, and after, even if the answer is lost.
   */
  change(method: "settle" | "release", question: EventQuestion, asker: Asker): Promise<ChangeVerdict> {
    const keys = keysOf(question);
    this.cache.invalidate(keys);
    const ask = () => this.fanOut.change(method, question, asker);
    const changed = this.order ? this.order.change(asker.position, question, asker.giveUpAtMs, ask) : ask();
    return changed.finally(() => this.cache.invalidate(keys));
  }
}
