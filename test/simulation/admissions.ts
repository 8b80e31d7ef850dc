import { type Limit, longestWindowMs } from "../../src/core/limit";
import type { LayerLimits, OverrideKind } from "../../src/core/override";
import { groupBy } from "./groups";

/**
 * Judges by what callers were told alone: no object's word, deed or clock has a part in it. An admission counts from some
 * instant between the sending of its first attempt that was not told a denial, and its first allowing answer. Whatever
 * these instants were, no window may hold more than its limit: a mistake is what no choice of them can explain.
 */

/** How a call ended for its caller. */
export type Ending = "admitted" | "replayed" | "denied" | "changed" | "unknown decision" | "reused id" | "unreachable";

/** A layer of the request that decides, its key, and its limits as the caller knows them. */
export interface Counted {
  readonly layer: string;
  readonly key: string;
  readonly limits: readonly Limit[];
}

export interface Attempt {
  readonly op: "consume" | "settle" | "release";
  readonly policy: string;
  /** Names the decision: policy, subject and id. */
  readonly decision: string;
  readonly cost: number;
  readonly counted: readonly Counted[];
  /** Layers in shadow count it too, which may know it for longer. */
  readonly hasShadow: boolean;
  readonly askedAtMs: number;
  readonly endedAtMs: number;
  readonly ending: Ending;
  /** What an allowing answer says of the limits on costs that decide. */
  readonly said: readonly Said[];
}

/** How a limit stands: when all of it comes back is when the newest event leaves its window. */
export interface Said {
  readonly layer: string;
  readonly key: string;
  readonly windowMs: number;
  readonly resetsInMs: number;
}

/** What an admin asked of a key. */
export interface KeyOrder {
  readonly key: string;
  readonly what: "override" | "lift" | "forget";
  readonly override?: { readonly kind: OverrideKind; readonly layers?: readonly LayerLimits[] | undefined } | undefined;
  /** By its object's clock, as it was told. */
  readonly endsAtMs?: number | undefined;
  readonly askedAtMs: number;
  readonly endedAtMs: number;
  /** The admin knows that it was done. */
  readonly isTold: boolean;
}

/** What the history itself makes uncertain. */
export interface Margins {
  /** How far an object's clock is from running evenly: its jumps and its ticks. */
  readonly clockMs: number;
  /** The least and the most that objects' clocks are ahead of the true time. */
  readonly offsetsMs: readonly [least: number, most: number];
  /** How long after a call has ended a message of it may still arrive. */
  readonly lateMs: number;
  /** How long an attempt may be under way. */
  readonly attemptMs: number;
}

/** A decision that was admitted, at some instant of a span of time. */
interface Admission {
  readonly decision: string;
  readonly policy: string;
  readonly cost: number;
  readonly counted: readonly Counted[];
  readonly fromMs: number;
  toMs: number;
  /** An answer of it was no replay. */
  isTold: boolean;
}

/** An admission as one of its layers counts it. */
interface Entry extends Admission {
  readonly settles: readonly Attempt[];
  /** When a release of it was first asked for. */
  readonly releasedMs: number;
  /** The limits that decided about it, undefined where nobody can tell which were in force. */
  readonly rule: Rule | undefined;
  /** For how long it counts at least. */
  readonly keptMs: number;
}

interface Rule {
  readonly limits: readonly Limit[];
  /** The override that they are of. */
  readonly order?: KeyOrder;
}

export function mistakesInAdmissions(
  attempts: readonly Attempt[],
  orders: readonly KeyOrder[],
  margins: Margins,
): string[] {
  const history = new Told(attempts, orders, margins);
  return [...history.mistakes, ...history.overAdmitted()];
}

class Told {
  readonly mistakes: string[] = [];
  readonly #admissions: Admission[] = [];
  readonly #byDecision: Map<string, Attempt[]>;
  readonly #forgettings: Map<string, KeyOrder[]>;
  readonly #overrides: Map<string, KeyOrder[]>;

  constructor(
    attempts: readonly Attempt[],
    orders: readonly KeyOrder[],
    private readonly margins: Margins,
  ) {
    this.#byDecision = groupBy(attempts, ({ decision }) => decision);
    this.#forgettings = groupBy(
      orders.filter(({ what }) => what === "forget"),
      ({ key }) => key,
    );
    this.#overrides = groupBy(
      orders.filter(({ what }) => what !== "forget").sort((a, b) => a.endedAtMs - b.endedAtMs),
      ({ key }) => key,
    );
    for (const own of this.#byDecision.values()) this.#follow(own);
  }

  /** One decision, as often as its id came back. */
  #follow(attempts: readonly Attempt[]): void {
    const admissions: Admission[] = [];
    const consumes = attempts.filter(({ op, counted }) => op === "consume" && counted.length > 0);
    for (const one of consumes.filter(isAllowed).sort((a, b) => a.endedAtMs - b.endedAtMs)) {
      const last = admissions.at(-1);
      if (last && this.#belongsTo(last, one)) continue;
      const fromMs = this.#earliestMs(one, last, consumes);
      this.#isCounted(one, fromMs, attempts);
      admissions.push({
        ...one,
        fromMs,
        toMs: one.endedAtMs,
        isTold: one.ending === "admitted",
      });
      if (one.ending === "replayed" && !this.#isAttempted(consumes, one)) this.#mistake("a replay of nothing", one);
    }
    this.#admissions.push(...admissions);
    for (const one of attempts.filter(({ op }) => op !== "consume")) this.#change(one, admissions, consumes);
    for (const one of consumes.filter(({ ending }) => ending === "reused id"))
      if (!this.#isAttempted(consumes, one, ({ cost }) => cost !== one.cost))
        this.#mistake("a conflict with nothing", one);
  }

  /** An admission is the newest event of every layer, or another is newer still. */
  #isCounted(one: Attempt, fromMs: number, attempts: readonly Attempt[]): void {
    const mayBeSettled = attempts.some(({ op, askedAtMs, endedAtMs }) => {
      return op === "settle" && endedAtMs + this.margins.lateMs >= fromMs && askedAtMs <= one.endedAtMs;
    });
    if (mayBeSettled || this.#isForgotten(one.counted, fromMs, one.endedAtMs)) return;
    const oldestMs = one.endedAtMs - fromMs + this.margins.clockMs;
    for (const { layer, key, windowMs, resetsInMs } of one.said)
      if (resetsInMs < windowMs - oldestMs) this.#mistake(`admitted, and not counted by ${layer} of ${key}`, one);
  }

  /** The answer is of an admission that was told before; or it is one of its own. */
  #belongsTo(last: Admission, one: Attempt): boolean {
    const isReset = this.#isForgotten(one.counted, last.fromMs, one.endedAtMs);
    if (!isReset && this.#isKnown(last, one)) {
      if (one.cost !== last.cost) this.#mistake("admitted under an id that was used with another cost", one);
      else if (one.ending === "admitted" && (last.isTold || one.askedAtMs > last.toMs))
        this.#mistake("charged twice", one);
      else {
        last.isTold ||= one.ending === "admitted";
        return true;
      }
      return false;
    }
    const { clockMs, lateMs, attemptMs } = this.margins;
    if (one.ending === "replayed") return one.askedAtMs < last.toMs + windowOf(one) + clockMs + lateMs;
    // An id that is sent again just after a reset may be taken for the attempt of before.
    const isAtOnce = one.endedAtMs < last.toMs + 2 * attemptMs + clockMs + lateMs;
    if (isReset && isAtOnce) last.toMs = one.endedAtMs;
    return isReset && isAtOnce;
  }

  /** By any clock, when the answer was given. */
  #isKnown(last: Admission, { endedAtMs }: Attempt): boolean {
    return endedAtMs < last.fromMs + windowOf(last) - this.margins.clockMs;
  }

  /** When the first attempt was sent that this admission may be of. */
  #earliestMs(one: Attempt, last: Admission | undefined, consumes: readonly Attempt[]): number {
    const { clockMs, lateMs } = this.margins;
    const reachMs = windowOf(one) + clockMs + lateMs;
    const forgottenMs = last ? last.fromMs + windowOf(last) - clockMs : Number.NEGATIVE_INFINITY;
    const mayBeOf = ({ ending, askedAtMs, endedAtMs }: Attempt) =>
      ending !== "denied" &&
      ending !== "reused id" &&
      askedAtMs <= one.endedAtMs &&
      askedAtMs + reachMs >= one.askedAtMs &&
      (!last || askedAtMs > last.toMs || endedAtMs + lateMs >= forgottenMs);
    return Math.min(one.askedAtMs, ...consumes.filter(mayBeOf).map(({ askedAtMs }) => askedAtMs));
  }

  /** Some attempt, whatever it was told, may be what this one found. */
  #isAttempted(consumes: readonly Attempt[], one: Attempt, isMeant: (other: Attempt) => boolean = () => true): boolean {
    const { clockMs, lateMs } = this.margins;
    return consumes.some(
      (other) =>
        other !== one &&
        isMeant(other) &&
        other.askedAtMs <= one.endedAtMs &&
        other.endedAtMs + lateMs + windowOf(other) + clockMs >= one.askedAtMs,
    );
  }

  /** A settle or a release finds what is known, and nothing else. */
  #change(one: Attempt, admissions: readonly Admission[], consumes: readonly Attempt[]): void {
    if (one.counted.length === 0) return;
    if (one.ending === "changed" && !one.hasShadow && !this.#isAttempted(consumes, one))
      this.#mistake("changed, though forgotten", one);
    if (one.ending !== "unknown decision") return;
    const isLost = admissions.some(
      (admission) =>
        admission.toMs <= one.askedAtMs &&
        this.#isKnown(admission, one) &&
        !this.#isForgotten(one.counted, admission.fromMs, one.endedAtMs),
    );
    if (isLost) this.#mistake("unknown, though admitted", one);
  }

  #isForgotten(counted: readonly Pick<Counted, "key">[], fromMs: number, toMs: number): boolean {
    return counted.some(({ key }) =>
      (this.#forgettings.get(key) ?? []).some(
        ({ askedAtMs, endedAtMs }) => askedAtMs <= toMs && endedAtMs + this.margins.lateMs >= fromMs,
      ),
    );
  }

  /** The windows that hold more than their limits. */
  overAdmitted(): string[] {
    const entries = groupBy(
      this.#admissions.flatMap((admission) => admission.counted.map((counted) => ({ admission, counted }))),
      ({ admission, counted: { layer, key } }) => `${admission.policy} ${layer} ${key}`,
    );
    return [...entries].flatMap(([name, own]) => {
      const key = own[0]?.counted.key ?? "";
      const all = own.map(({ admission, counted }) => this.#entry(admission, counted));
      const rules = groupBy(
        all.filter(({ rule }) => rule),
        ({ rule }) => `${JSON.stringify(rule?.limits)} ${rule?.order?.askedAtMs}`,
      );
      return [...rules.values()].flatMap((decided) =>
        (decided[0]?.rule?.limits ?? []).flatMap((limit) => this.#exceeded(name, key, limit, decided, all)),
      );
    });
  }

  #entry(admission: Admission, { layer, key, limits }: Counted): Entry {
    const { decision, fromMs, toMs, policy } = admission;
    const changes = (this.#byDecision.get(decision) ?? []).filter(({ askedAtMs }) => askedAtMs >= fromMs);
    const rule = this.#ruleOf(key, policy, layer, limits, fromMs, toMs);
    return {
      ...admission,
      settles: changes.filter(({ op }) => op === "settle"),
      releasedMs: Math.min(
        Number.POSITIVE_INFINITY,
        ...changes.filter(({ op }) => op === "release").map(({ askedAtMs }) => askedAtMs),
      ),
      rule,
      keptMs: Math.max(windowOf(admission), rule?.order ? longestWindowMs(rule.limits) : 0),
    };
  }

  /** The limits that were in force all the time, if that is certain: none under an exemption or a ban. */
  #ruleOf(
    key: string,
    policy: string,
    layer: string,
    own: readonly Limit[],
    fromMs: number,
    toMs: number,
  ): Rule | undefined {
    const { lateMs, clockMs, offsetsMs } = this.margins;
    const orders = (this.#overrides.get(key) ?? []).filter(({ askedAtMs }) => askedAtMs <= toMs);
    const order = orders.filter(({ isTold }) => isTold).findLast(({ endedAtMs }) => endedAtMs <= fromMs);
    const isDisturbed = orders.some(
      (other) => other !== order && (!order || other.endedAtMs + lateMs >= order.askedAtMs),
    );
    if (isDisturbed) return undefined;
    const { override, endsAtMs = 0 } = order ?? {};
    if (!order || !override || fromMs + offsetsMs[0] - clockMs >= endsAtMs + lateMs) return { limits: own };
    if (toMs + offsetsMs[1] >= endsAtMs) return undefined;
    if (override.kind !== "limits") return { limits: [], order };
    const other = override.layers?.find((one) => one.policy === policy && one.layer === layer);
    return other ? { limits: other.limits, order } : { limits: own };
  }

  /**
   * Whoever of `decided` was the last was decided by `limit`, with all of those in its window that were before: more than
   * one is told of a counter once.
   */
  #exceeded(name: string, key: string, limit: Limit, decided: readonly Entry[], all: readonly Entry[]): string[] {
    if (sumOf(all, (entry) => Math.max(entry.cost, ...entry.settles.map(({ cost }) => cost))) <= limit.max) return [];
    for (const { toMs: untilMs, rule } of decided) {
      const isIn = (entry: Entry) =>
        entry.toMs <= untilMs &&
        untilMs - entry.fromMs < this.#countsForMs(entry, limit, rule?.order) - this.margins.clockMs &&
        !this.#isForgotten([{ key }], entry.fromMs, untilMs);
      const rivals = decided.filter(isIn);
      const lastFromMs = Math.max(...rivals.map(({ fromMs }) => fromMs));
      const earlier = all.filter((entry) => entry.toMs <= lastFromMs && !rivals.includes(entry) && isIn(entry));
      const inWindow = [...rivals, ...earlier];
      const used = sumOf(inWindow, (entry) => this.#leastWeight(entry, limit, lastFromMs, untilMs));
      if (used > limit.max)
        return [
          `too much was admitted by ${name}: ${used} under ${JSON.stringify(limit)}, ` +
            inWindow.map(({ decision, fromMs, toMs }) => `${decision} at ${fromMs} to ${toMs}`).join(", "),
        ];
    }
    return [];
  }

  /** What a longer window sees is what was kept; an override keeps, from when it is set, what counts then. */
  #countsForMs({ fromMs, keptMs }: Entry, { windowMs }: Limit, order: KeyOrder | undefined): number {
    const isHeld = order && order.endedAtMs + this.margins.clockMs < fromMs + keptMs;
    return isHeld ? windowMs : Math.min(windowMs, keptMs);
  }

  /** What it counts at least, to a decision between two instants. */
  #leastWeight(
    { cost, settles, releasedMs, fromMs, toMs, ...entry }: Entry,
    limit: Limit,
    afterMs: number,
    untilMs: number,
  ): number {
    if (limit.kind === "concurrent") return releasedMs <= untilMs ? 0 : 1;
    const costs = settles.filter(({ askedAtMs }) => askedAtMs <= untilMs).map((settle) => settle.cost);
    const knownUntilMs = fromMs + windowOf(entry) - this.margins.clockMs;
    const isSettled = settles.some(
      ({ ending, askedAtMs, endedAtMs }) =>
        ending === "changed" && askedAtMs >= toMs && endedAtMs <= Math.min(afterMs, knownUntilMs),
    );
    return isSettled ? Math.min(...costs) : Math.min(cost, ...costs);
  }

  #mistake(what: string, { op, decision, askedAtMs, endedAtMs, ending }: Attempt): void {
    this.mistakes.push(`${what}: ${op} ${decision}, asked at ${askedAtMs}, ${ending} at ${endedAtMs}`);
  }
}

function isAllowed({ ending }: Attempt): boolean {
  return ending === "admitted" || ending === "replayed";
}

/** For how long an id is known: the longest window of the limits that decide, whatever overrides them. */
function windowOf({ counted }: { readonly counted: readonly Counted[] }): number {
  return Math.max(...counted.map(({ limits }) => longestWindowMs(limits)));
}

function sumOf<T>(items: readonly T[], weight: (item: T) => number): number {
  return items.reduce((sum, item) => sum + weight(item), 0);
}
