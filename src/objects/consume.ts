import type { BatchOrder, Member } from "./batch-order";
import { type Hearer, hear, heard } from "./calls";
import type { Timing } from "./deadline";
import type { DenialCache, QuestionInFlight, Recalled } from "./denial-cache";
import type { FanOut } from "./fan-out";
import { type Asker, type ConsumeQuestion, type ConsumeVerdict, keysOf } from "./objects";

/** How often, and how long each time, a request waits while another one revalidates its denial. */
const MOST_WAITS = 10;
const WAIT_MS = 5;

const DENIED = { replayed: false, conflicts: false, charged: false };

interface Objects {
  readonly fanOut: FanOut;
  readonly cache: DenialCache;
  readonly timing: Timing;
  readonly order: BatchOrder | undefined;
}

/** One consume: answered by the denial cache, or decided by the objects in the order of its batch. */
export class Consume implements Hearer<ConsumeVerdict> {
  #member: Member | undefined;
  #asked: QuestionInFlight | undefined;

  constructor(
    private readonly objects: Objects,
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
    if (this.#member && !verdict.allowed) this.#again(this.#member, { status: "fulfilled", value: verdict });
    else this.#end(verdict);
  }

  failed(reason: unknown): void {
    if (this.#member) this.#again(this.#member, { status: "rejected", reason });
    else this.#fail(reason);
  }

  #ask(recalled: Recalled | undefined): void {
    if (typeof recalled === "object") {
      this.hearer.answered({ ...DENIED, ...recalled, isCached: true });
      return;
    }
    const { fanOut, cache, order } = this.objects;
    this.#asked = cache.asking(this.question);
    this.#member = order?.join(this.asker.position, this.question);
    // In a batch, a check before the charge would let later calls go first.
    fanOut.consume(this.question, this.asker, recalled !== undefined && !order, this);
  }

  /** An earlier call of the batch may have caused a denial or a failure. */
  #again(member: Member, outcome: PromiseSettledResult<ConsumeVerdict>): void {
    const { fanOut } = this.objects;
    const { question, asker } = this;
    const ask = (isLikelyDenied: boolean) =>
      heard<ConsumeVerdict>((hearer) => fanOut.consume(question, asker, isLikelyDenied, hearer));
    hear(member.order.consumeAgain(member, outcome, asker.giveUpAtMs, ask), {
      answered: (verdict) => this.#end(verdict),
      failed: (error) => this.#fail(error),
    });
  }

  #end(verdict: ConsumeVerdict): void {
    this.#member?.end();
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
