import type { ChangeVerdict, EventQuestion, ObjectVerdict, Question } from "../object/protocol";
import type { Timing } from "./deadline";
import type { DenialCache, Recalled } from "./denial-cache";
import { type ConsumeOptions, type ConsumeQuestion, type ConsumeVerdict, keysOf, type Objects } from "./objects";

/** How often, and how long each time, a request waits while another one revalidates its denial. */
const MOST_WAITS = 10;
const WAIT_MS = 5;

const DENIED = { replayed: false, conflicts: false, charged: false };

/** The earlier calls of the batch. A cached denial may not hold after them. */
interface EarlierCalls {
  /** One of them charges or changes one of these keys. */
  mayChange(keys: readonly string[]): boolean;
}

/** The objects behind the denial cache. A consume that was denied a moment ago is answered without asking them. */
export class CachedObjects implements Objects {
  constructor(
    private readonly objects: Objects,
    private readonly cache: DenialCache,
    private readonly timing: Timing,
    private readonly batch?: EarlierCalls,
  ) {}

  check(question: Question): Promise<ObjectVerdict> {
    return this.objects.check(question);
  }

  consume(question: ConsumeQuestion, options: ConsumeOptions): Promise<ConsumeVerdict> {
    const recalled = this.#recall(question, options);
    if (recalled === "revalidating" && !this.batch) return this.#consumeLater(question, options);
    // In a batch, no await before this: the call must have joined the order of the batch when the next call looks there.
    return this.#consume(question, options, recalled);
  }

  settle(question: EventQuestion): Promise<ChangeVerdict> {
    return this.#change(question, () => this.objects.settle(question));
  }

  release(question: EventQuestion): Promise<ChangeVerdict> {
    return this.#change(question, () => this.objects.release(question));
  }

  #recall(question: ConsumeQuestion, { isNew }: ConsumeOptions): Recalled | undefined {
    const recalled = isNew ? this.cache.recall(question) : undefined;
    return recalled !== undefined && this.batch?.mayChange(keysOf(question)) ? undefined : recalled;
  }

  #consume(
    question: ConsumeQuestion,
    options: ConsumeOptions,
    recalled: Recalled | undefined,
  ): Promise<ConsumeVerdict> {
    if (typeof recalled === "object") return Promise.resolve({ ...DENIED, ...recalled, isCached: true });
    const asked = recalled === undefined ? options : { ...options, isLikelyDenied: true };
    return this.cache.remember(question, () => this.objects.consume(question, asked));
  }

  async #consumeLater(question: ConsumeQuestion, options: ConsumeOptions): Promise<ConsumeVerdict> {
    return this.#consume(question, options, await this.#revalidated(question));
  }

  /** Single-flight: one request revalidates an expired denial; the others wait briefly. */
  async #revalidated(question: Question): Promise<Recalled | undefined> {
    for (let waits = 0; waits < MOST_WAITS; waits++) {
      // A timer of its own: the runtime cancels a request that waits for another request's promise.
      await new Promise<void>((resolve) => void this.timing.after(WAIT_MS, resolve));
      const recalled = this.cache.recall(question);
      if (recalled !== "revalidating") return recalled;
    }
    return "revalidating";
  }

  /** A change may make room. It invalidates before, for later calls of a batch, and after, even if the answer is lost. */
  #change(question: EventQuestion, change: () => Promise<ChangeVerdict>): Promise<ChangeVerdict> {
    const keys = keysOf(question);
    this.cache.invalidate(keys);
    return change().finally(() => this.cache.invalidate(keys));
  }
}
