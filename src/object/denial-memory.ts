import { costOfCounters } from "../core/cost";
import type { Call, CallResult, Denial, Inspected, KeyDenials, ObjectVerdict, Question } from "./protocol";

/** How many denials of a key are remembered, and how many keys of an object: at most some 400 KB. */
const MOST_DENIALS = 10;
const MOST_KEYS = 256;

/** A denial with the attempt that was denied, if it was an attempt: a call that is sent again is the same denial. */
interface Remembered extends Denial {
  readonly attempt: string | undefined;
}

interface Entry {
  /** Earlier denials of the key were forgotten. */
  readonly sinceMs: number;
  /** Oldest first. */
  readonly denials: Remembered[];
}

const NOTHING: Inspected = { standings: [], total: 0, events: [] };

/**
 * The last denials of each key, for people who ask why a request was denied. They are in memory only: nothing is written,
 * and all are gone when the object leaves memory. Allowed requests cost nothing here.
 */
export class DenialMemory {
  /** The key denied least recently comes first. */
  readonly #entries = new Map<string, Entry>();
  /** The object's first turn, or the newest denial of a key that had to make room. */
  #sinceMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly mostDenials = MOST_DENIALS,
    private readonly mostKeys = MOST_KEYS,
  ) {}

  /** Each turn tells its time: earlier denials are unknown. */
  begin(nowMs: number): void {
    if (this.#sinceMs === Number.NEGATIVE_INFINITY) this.#sinceMs = nowMs;
  }

  /** Remembers a consume that the object denied. */
  remember({ method, question }: Call, result: CallResult | undefined): void {
    // A check for the denial cache is a consume whose last denial has just expired.
    const isConsume = method === "consume" || (method === "check" && question.cacheMs !== undefined);
    if (!isConsume || !result || !("verdict" in result)) return;
    const { verdict } = result;
    // An id with another cost or policy is a mistake, and no denial.
    if (verdict.allowed || ("conflicts" in verdict && verdict.conflicts)) return;
    const attempt = method === "consume" ? question.attempt : undefined;
    for (const key of new Set(question.counters.map(({ key }) => key))) this.#add(key, question, verdict, attempt);
  }

  forget(key: string): void {
    const newest = this.#entries.get(key)?.denials.at(-1);
    if (newest) this.#entries.set(key, { sinceMs: newest.atMs, denials: [] });
  }

  /** The inspection of a key, with its denials in the first place. */
  addTo(inspected: readonly Inspected[], key: string, nowMs: number): Inspected[] {
    this.begin(nowMs);
    const [first = NOTHING, ...rest] = inspected;
    return [{ ...first, denials: this.#denialsOf(key) }, ...rest];
  }

  #denialsOf(key: string): KeyDenials {
    const { sinceMs = Number.NEGATIVE_INFINITY, denials = [] } = this.#entries.get(key) ?? {};
    const newestFirst = denials.map(({ attempt: _, ...denial }) => denial).reverse();
    return { sinceMs: Math.max(this.#sinceMs, sinceMs), denials: newestFirst };
  }

  #add(key: string, question: Question, verdict: ObjectVerdict, attempt: string | undefined): void {
    const limits = limitsThatDenied(key, question, verdict);
    if (limits.length === 0) return;
    const { policy, counters } = question;
    const cost = costOfCounters(
      question.cost,
      counters.filter((counter) => counter.key === key),
    );
    const { sinceMs = Number.NEGATIVE_INFINITY, denials = [] } = this.#entries.get(key) ?? {};
    if (attempt !== undefined && denials.at(-1)?.attempt === attempt) denials.pop();
    denials.push({ atMs: verdict.atMs, policy, cost, limits, attempt });
    if (denials.length > this.mostDenials) denials.shift();
    this.#entries.delete(key);
    this.#entries.set(key, { sinceMs, denials });
    if (this.#entries.size > this.mostKeys) this.#makeRoom();
  }

  #makeRoom(): void {
    const [oldest] = this.#entries;
    if (!oldest) return;
    const [key, { denials }] = oldest;
    this.#entries.delete(key);
    this.#sinceMs = Math.max(this.#sinceMs, denials.at(-1)?.atMs ?? this.#sinceMs);
  }
}

/** The limits of the key that did not admit the cost. */
function limitsThatDenied(
  key: string,
  { counters }: Question,
  { standings, overrides }: ObjectVerdict,
): Denial["limits"] {
  return counters.flatMap((counter, i) => {
    if (counter.key !== key) return [];
    const override = overrides?.[i];
    return (override?.limits ?? counter.limits).flatMap((limit, l) => {
      const standing = standings[i]?.[l];
      if (!standing || standing.fitsInMs === 0) return [];
      const isFull = standing.fullForMs !== undefined && { isFull: true as const };
      const byOverride = override && { override: override.kind };
      return [{ layer: counter.layer, limit, used: standing.used, ...isFull, ...byOverride }];
    });
  });
}
