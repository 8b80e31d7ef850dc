import type { ChangeVerdict, EventQuestion, ObjectVerdict, Question } from "../object/protocol";
import { type Asker, type ConsumeQuestion, type ConsumeVerdict, keysOf } from "./asker";
import type { Member } from "./batch-member";
import type { BatchOrder } from "./batch-order";
import { type Hearer, hear, heard } from "./calls";
import type { DenialCache, QuestionInFlight, Recalled } from "./denial-cache";
import type { FanOut } from "./fan-out";
import type { Timing } from "./timing";

/** How often, and how long each time, a request waits while another one revalidates its denial. */
const MOST_WAITS = 10;
const WAIT_MS = 5;

const DENIED = { replayed: false, conflicts: false, charged: false };

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

/** The place of a consume in its batch. */
interface BatchPlace {
  readonly order: BatchOrder;
  readonly member: Member;
}

/** One consume: answered by the denial cache, or decided by the objects in the order of its batch. */
class Consume implements Hearer<ConsumeVerdict> {
  #place: BatchPlace | undefined;
  #asked: QuestionInFlight | undefined;

  constructor(
    private readonly objects: LiveObjects,
    private readonly question: ConsumeQuestion,
    private readonly asker: Asker,
    private readonly hearer: Hearer<ConsumeVerdict>,
  ) {}

  /** `isNew`: no earlier call has sent this id. Whether any other id was admitted, only the objects know. */
  begin(isNew: boolean): void {
    const { cache, order } = this.objects;
    const recalled = isNew ? cache.recall(this.question) : undefined;
    if (recalled === undefined || order?.mayChange(keysOf(this.question))) this.#ask(undefined);
    else if (recalled !== "revalidating" || order) this.#ask(recalled);
    else
      hear(this.#revalidated(), {
        answered: (recalled) => this.#ask(recalled),
        failed: (error) => this.hearer.failed(error),
      });
  }

  /** The objects have decided a first round. An admission needs no other. */
  answered(verdict: ConsumeVerdict): void {
    if (this.#place && !verdict.allowed) this.#again(this.#place, { status: "fulfilled", value: verdict });
    else this.#end(verdict);
  }

  failed(reason: unknown): void {
    if (this.#place) this.#again(this.#place, { status: "rejected", reason });
    else this.#fail(reason);
  }

  #ask(recalled: Recalled | undefined): void {
    if (typeof recalled === "object") {
      this.hearer.answered({ ...DENIED, ...recalled, isCached: true });
      return;
    }
    const { fanOut, cache, order } = this.objects;
    this.#asked = cache.asking(this.question);
    this.#place = order && { order, member: order.join(this.asker.position, this.question) };
    // In a batch, a check before the charge would let later calls go first.
    fanOut.consume(this.question, this.asker, recalled !== undefined && !order, this);
  }

  /** An earlier call of the batch may have caused a denial or a failure. */
  #again({ order, member }: BatchPlace, outcome: PromiseSettledResult<ConsumeVerdict>): void {
    const { fanOut } = this.objects;
    const { question, asker } = this;
    const ask = (isLikelyDenied: boolean) =>
      heard<ConsumeVerdict>((hearer) => fanOut.consume(question, asker, isLikelyDenied, hearer));
    hear(order.consumeAgain(member, outcome, asker.giveUpAtMs, ask), {
      answered: (verdict) => this.#end(verdict),
      failed: (error) => this.#fail(error),
    });
  }

  #end(verdict: ConsumeVerdict): void {
    this.#place?.member.end();
    this.objects.cache.remember(this.#asked, verdict);
    this.hearer.answered(verdict);
  }

  #fail(error: unknown): void {
    this.objects.cache.forget(this.#asked);
    this.hearer.failed(error);
  }

  /** Single-flight: one request revalidates an expired denial; the others wait briefly. */
  async #revalidated(): Promise<Recalled | undefined> {
    for (let waits = 0; waits < MOST_WAITS; waits++) {
      // A timer of its own: the runtime cancels a request that waits for another request's promise.
      await new Promise<void>((resolve) => void this.objects.timing.after(WAIT_MS, resolve));
      const recalled = this.objects.cache.recall(this.question);
      if (recalled !== "revalidating") return recalled;
    }
    return "revalidating";
  }
}
