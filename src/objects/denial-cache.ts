import { type Cost, costIn } from "../core/cost";
import type { OverrideStanding } from "../core/override";
import { MOST_LEAVINGS, type Standing, standingAfter } from "../core/standing";
import type { ObjectVerdict, Question } from "../object/protocol";
import { keysOf } from "./asker";

/** About how much memory the cache takes at most. The oldest questions go first. */
const MOST_BYTES = 8 * 1_048_576;
/** How many costs of a question are cached. One more clears the others. */
const MOST_COSTS = 8;

/** A denial, and when it was asked for and answered. The object decided somewhere between. */
interface Denial {
  readonly cost: Cost;
  readonly verdict: ObjectVerdict;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  /** How long it is used, from when it was asked for. */
  readonly cachedMs: number;
  /** Something may have made room since. */
  isInvalidated: boolean;
}

/** The denials of one question, each of another cost. */
interface CachedQuestion {
  readonly keys: readonly string[];
  denials: Denial[];
  weightBytes: number;
}

/** A question that the objects are being asked. */
export class QuestionInFlight {
  /** Something may have made room meanwhile, which the verdict may not have seen. */
  isInvalidated = false;
  #name: string | undefined;

  constructor(
    readonly question: Question,
    readonly askedAtMs: number,
  ) {}

  /** Made when it is needed: most questions are admitted while nothing is cached. */
  get name(): string {
    this.#name ??= nameOf(this.question);
    return this.#name;
  }
}

/**
 * What the cache says of a question that was denied before:
 * - a verdict: the denial, with its waits counted down;
 * - `lower-cost-denied`: a cost was denied that is higher in no layer, so this cost is denied too. How it stands, only the objects know;
 * - `expired`: the denial is too old or invalidated. The objects must be asked again, and most likely deny;
 * - `revalidating`: the same, and another request is asking the objects.
 */
export type Recalled = ObjectVerdict | "lower-cost-denied" | "expired" | "revalidating";

/**
 * Denials of a moment ago, so that a flood is answered here and not by the objects. The cache never admits.
 *
 * A denial holds until enough has left the window. It is used for `mostMs` at most, since a settle, a release or a reset
 * in another isolate may make room; those in this isolate invalidate every denial of their keys.
 *
 * Denials are cached per question, not per key: a denial may rest on a charge that is about to be rolled back, and must
 * not reach other callers.
 *
 * The cache uses its own clock and only durations of the verdict. A denial ends by the time at which it was asked for, and its
 * waits are counted down from the time at which it was answered. So both are wrong by a round trip at most, and a denial never
 * lasts too long.
 */
export class DenialCache {
  /** By the question's name, which leaves out the cost. The oldest first. */
  readonly #questions = new Map<string, CachedQuestion>();
  /** The names of the questions that count by a key. */
  readonly #namesOf = new Map<string, Set<string>>();
  readonly #inFlight = new Set<QuestionInFlight>();
  #weightBytes = 0;

  /** `mostMs` of 0 caches nothing. */
  constructor(
    private readonly mostMs: number,
    private readonly now: () => number,
  ) {}

  /** The objects are being asked. Undefined if nothing is cached. */
  asking(question: Question): QuestionInFlight | undefined {
    if (this.mostMs === 0) return undefined;
    const askedAtMs = this.now();
    this.#dropOldQuestions(askedAtMs);
    const asked = new QuestionInFlight(question, askedAtMs);
    this.#inFlight.add(asked);
    return asked;
  }

  /** Remembers a denial. An admission removes the question's earlier denials. */
  remember(asked: QuestionInFlight | undefined, verdict: ObjectVerdict): void {
    if (!asked) return;
    this.#inFlight.delete(asked);
    if (!verdict.allowed && !asked.isInvalidated) this.#add(asked, verdict);
    else if (verdict.allowed && this.#questions.size > 0) this.#remove(asked.name);
  }

  /** The objects gave no verdict. */
  forget(asked: QuestionInFlight | undefined): void {
    if (asked) this.#inFlight.delete(asked);
  }

  /** What the cache says of a question; undefined if it holds no denial that still stands. */
  recall(question: Question): Recalled | undefined {
    if (this.#questions.size === 0) return undefined;
    const name = nameOf(question);
    const cached = this.#questions.get(name);
    if (!cached) return undefined;
    const nowMs = this.now();
    const standing = cached.denials.filter((denial) => isAtMost(denial.cost, question) && stands(denial, nowMs));
    if (standing.length === 0) return undefined;
    const usable = standing.filter((denial) => isUsable(denial, nowMs));
    const same = usable.find(({ cost }) => isCostOf(question, cost));
    if (same) return countedDown(same, nowMs);
    if (usable.length > 0) return "lower-cost-denied";
    return this.#isInFlight(name, nowMs) ? "revalidating" : "expired";
  }

  /** Something may have made room by these keys: their denials, cached or in flight, are used no more. */
  invalidate(keys: readonly string[]): void {
    for (const key of keys) {
      for (const name of this.#namesOf.get(key) ?? [])
        for (const denial of this.#questions.get(name)?.denials ?? []) denial.isInvalidated = true;
      // However many questions share a key, each is visited once until it is cached again.
      this.#namesOf.delete(key);
    }
    for (const asked of this.#inFlight)
      if (asked.question.counters.some(({ key }) => keys.includes(key))) asked.isInvalidated = true;
  }

  clear(): void {
    this.#questions.clear();
    this.#namesOf.clear();
    this.#weightBytes = 0;
    for (const asked of this.#inFlight) asked.isInvalidated = true;
  }

  /**
   * The runtime cancels the request of a client that hangs up, and the request then never ends here. A verdict that comes
   * after `mostMs` would not be used either.
   */
  #dropOldQuestions(nowMs: number): void {
    for (const asked of this.#inFlight) {
      if (nowMs - asked.askedAtMs < this.mostMs) return;
      this.#inFlight.delete(asked);
    }
  }

  #isInFlight(name: string, nowMs: number): boolean {
    this.#dropOldQuestions(nowMs);
    for (const asked of this.#inFlight) if (asked.name === name) return true;
    return false;
  }

  #add({ name, question, askedAtMs }: QuestionInFlight, verdict: ObjectVerdict): void {
    // Without leavings the figures could not be counted down.
    if (!verdict.leavings) return;
    const { cost } = question;
    const keys = keysOf(question);
    const cached: CachedQuestion = this.#questions.get(name) ?? { keys, denials: [], weightBytes: 0 };
    const kept = cached.denials.length < MOST_COSTS ? cached.denials : [];
    const cachedMs = cachedMsOf(verdict, this.mostMs);
    const denial = { cost, verdict, askedAtMs, answeredAtMs: this.now(), cachedMs, isInvalidated: false };
    cached.denials = [...kept.filter(({ cost }) => !isCostOf(question, cost)), denial];
    // The newest question goes to the end.
    this.#remove(name);
    this.#questions.set(name, cached);
    cached.weightBytes = weightBytesOf(name, cached);
    this.#weightBytes += cached.weightBytes;
    for (const key of keys) this.#namesOf.set(key, (this.#namesOf.get(key) ?? new Set()).add(name));
    for (const oldest of this.#questions.keys()) {
      if (this.#weightBytes <= MOST_BYTES) break;
      this.#remove(oldest);
    }
  }

  #remove(name: string): void {
    const { keys = [], weightBytes = 0 } = this.#questions.get(name) ?? {};
    this.#questions.delete(name);
    this.#weightBytes -= weightBytes;
    for (const key of keys) {
      const names = this.#namesOf.get(key);
      names?.delete(name);
      if (names?.size === 0) this.#namesOf.delete(key);
    }
  }
}

function isCostOf({ cost, counters }: Question, other: Cost): boolean {
  if (typeof cost === "number" && typeof other === "number") return cost === other;
  return counters.every(({ layer }) => costIn(cost, layer) === costIn(other, layer));
}

/** Whether `lower` is above the question's cost in no layer. A layer that denies the lower cost denies the question then. */
function isAtMost(lower: Cost, { cost, counters }: Question): boolean {
  return counters.every(({ layer }) => costIn(lower, layer) <= costIn(cost, layer));
}

/** Not enough has left the window since. A denial from before the clock went back does not stand. */
function stands({ verdict, askedAtMs }: Denial, nowMs: number): boolean {
  const sinceMs = nowMs - askedAtMs;
  return sinceMs >= 0 && verdict.standings.some((limits) => limits.some(({ fitsInMs }) => fitsInMs > sinceMs));
}

function isUsable({ askedAtMs, cachedMs, isInvalidated }: Denial, nowMs: number): boolean {
  return !isInvalidated && nowMs - askedAtMs < cachedMs;
}

/** Unique per question: keys have no line breaks. It has the limits, since callers may name limits themselves. */
function nameOf({ policy, counters }: Question): string {
  let name = policy;
  for (const { layer, key, limits } of counters) {
    name += `\n${key}\n${layer}`;
    for (const { kind = "", max, windowMs } of limits) name += ` ${max}${kind}/${windowMs}`;
  }
  return name;
}

/** About what a question takes in memory with its denials: a number in JSON takes eight bytes, and objects have headers. */
function weightBytesOf(name: string, { keys, denials }: CachedQuestion): number {
  let bytes = 500 + 4 * name.length + 200 * keys.length;
  for (const { verdict } of denials) bytes += 500 + 5 * JSON.stringify(verdict).length;
  return bytes;
}

/** How long the figures can be counted down: until an override ends, or the foretold leavings do. */
function cachedMsOf({ leavings = [], overrides = [] }: ObjectVerdict, mostMs: number): number {
  const ends = overrides.flatMap((override) => override?.endsInMs ?? []);
  const foretold = leavings.flat().flatMap((ahead) => {
    const isCut = ahead.length === 2 * MOST_LEAVINGS;
    return isCut ? (ahead.at(-2) ?? []) : [];
  });
  return Math.min(mostMs, ...ends, ...foretold);
}

/** The denial as it stands at `nowMs`, if nobody has consumed since. */
function countedDown({ verdict, answeredAtMs }: Denial, nowMs: number): ObjectVerdict {
  const sinceMs = nowMs - answeredAtMs;
  const { standings, overrides, leavings, ...rest } = verdict;
  const overrideAfter = ({ endsInMs, ownFitsInMs, ...kept }: OverrideStanding): OverrideStanding => ({
    ...kept,
    endsInMs: endsInMs - sinceMs,
    ownFitsInMs: Math.max(0, ownFitsInMs - sinceMs),
  });
  const limitsAfter = (limits: readonly Standing[], c: number) =>
    limits.map((standing, l) => standingAfter(sinceMs, standing, leavings?.[c]?.[l] ?? []));
  return {
    ...rest,
    standings: standings.map(limitsAfter),
    ...(overrides && { overrides: overrides.map((override) => override && overrideAfter(override)) }),
  };
}
