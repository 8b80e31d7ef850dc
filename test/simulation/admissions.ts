import type { Cost } from "../../src/core/cost";
import { type Limit, longestWindowMs } from "../../src/core/limit";
import type { LayerLimits, OverrideKind } from "../../src/core/override";
import type { Counter } from "../../src/object/protocol";
import { groupBy } from "../../tools/group-by";
import { costFor, isSameFor, settledFor } from "./costs";

/**
 * Judges a history by the callers' side alone: no object's verdict, execution or clock has a part in it. An admission
 * counts from some instant between the sending of its first call that was not denied and its first allowing answer. No
 * window may hold more than its limit, wherever in these spans the instants lie. So only what no choice of instants can
 * explain is a mistake.
 */

/** How a call ended for its caller. */
export type Outcome = "admitted" | "replayed" | "denied" | "changed" | "unknown decision" | "reused id" | "unreachable";

/** One call of a caller, who may send several for one decision. */
export interface CallerCall {
  readonly op: "consume" | "settle" | "release";
  readonly policy: string;
  /** Names the decision: policy, subject and id. */
  readonly decisionName: string;
  /** By layer, a settle has only the layers that it changes. */
  readonly cost: Cost;
  /** The counters of live layers, with their limits as the caller knows them. */
  readonly counters: readonly Counter[];
  /** Layers in shadow count the call too. They may know its id for longer. */
  readonly hasShadow: boolean;
  readonly sentAtMs: number;
  readonly endedAtMs: number;
  readonly outcome: Outcome;
  /** What an allowing answer reports of the live limits on costs. */
  readonly standings: readonly ReportedStanding[];
}

/** The reset of a limit, as reported: the newest event leaves the window then. */
export interface ReportedStanding {
  readonly layer: string;
  readonly key: string;
  readonly windowMs: number;
  readonly resetsInMs: number;
}

/** A call of an admin about a key. */
export interface AdminCall {
  readonly key: string;
  readonly op: "override" | "lift" | "forget";
  readonly override?: { readonly kind: OverrideKind; readonly layers?: readonly LayerLimits[] | undefined } | undefined;
  /** By the object's clock, as the answer reports it. */
  readonly endsAtMs?: number | undefined;
  readonly sentAtMs: number;
  readonly endedAtMs: number;
  readonly isAcknowledged: boolean;
}

/** What the history itself leaves uncertain. */
export interface Margins {
  /** How far an object's clock may be from running evenly: its jumps and its ticks. */
  readonly clockMs: number;
  /** The least and the most that objects' clocks are ahead of the true time. */
  readonly offsetsMs: readonly [least: number, most: number];
  /** How long after its end a message of a call may still arrive. */
  readonly lateMs: number;
  /** How long an attempt may be in flight. */
  readonly attemptMs: number;
}

/** An admission: it happened at some instant of a span. */
interface Admission {
  readonly decisionName: string;
  readonly policy: string;
  readonly cost: Cost;
  readonly counters: readonly Counter[];
  readonly fromMs: number;
  toMs: number;
  /** Some answer about it was not a replay. */
  hasFirstAnswer: boolean;
}

/** An admission as one of its counters holds it. */
interface CountedAdmission extends Omit<Admission, "cost"> {
  readonly cost: number;
  /** The settles that change this counter. */
  readonly settles: readonly CounterSettle[];
  /** When the first release was sent. */
  readonly releasedMs: number;
  /** The limits that decided, undefined where none did, or where the callers can't tell which were in force. */
  readonly decidedBy: DecidingLimits | undefined;
  /** How long the admission counts at least. */
  readonly retainMs: number;
}

interface CounterSettle extends Omit<CallerCall, "cost"> {
  readonly cost: number;
}

interface DecidingLimits {
  readonly limits: readonly Limit[];
  /** The call that set the override in force. */
  readonly override?: AdminCall;
}

export function mistakesInAdmissions(
  calls: readonly CallerCall[],
  adminCalls: readonly AdminCall[],
  margins: Margins,
): string[] {
  const history = new CallerHistory(calls, adminCalls, margins);
  return [...history.mistakes, ...history.overAdmissions()];
}

class CallerHistory {
  readonly mistakes: string[] = [];
  readonly #admissions: Admission[] = [];
  readonly #callsByDecision: Map<string, CallerCall[]>;
  readonly #forgetsByKey: Map<string, AdminCall[]>;
  /** The calls that set or lift overrides, in the order of their ends. */
  readonly #overridesByKey: Map<string, AdminCall[]>;

  constructor(
    calls: readonly CallerCall[],
    adminCalls: readonly AdminCall[],
    private readonly margins: Margins,
  ) {
    this.#callsByDecision = groupBy(calls, ({ decisionName }) => decisionName);
    this.#forgetsByKey = groupBy(
      adminCalls.filter(({ op }) => op === "forget"),
      ({ key }) => key,
    );
    this.#overridesByKey = groupBy(
      adminCalls.filter(({ op }) => op !== "forget").sort((a, b) => a.endedAtMs - b.endedAtMs),
      ({ key }) => key,
    );
    for (const ofDecision of this.#callsByDecision.values()) this.#judgeDecision(ofDecision);
  }

  /** Judges all calls about one decision, which is admitted anew each time its id has been forgotten. */
  #judgeDecision(calls: readonly CallerCall[]): void {
    const admissions: Admission[] = [];
    const consumes = calls.filter(({ op, counters }) => op === "consume" && counters.length > 0);
    for (const consume of consumes.filter(isAllowed).sort((a, b) => a.endedAtMs - b.endedAtMs)) {
      const last = admissions.at(-1);
      if (last && this.#belongsTo(last, consume)) continue;
      const fromMs = this.#earliestMs(consume, last, consumes);
      this.#checkCounted(consume, fromMs, calls);
      admissions.push({
        ...consume,
        fromMs,
        toMs: consume.endedAtMs,
        hasFirstAnswer: consume.outcome === "admitted",
      });
      if (consume.outcome === "replayed" && !this.#mayBeSentBefore(consumes, consume))
        this.#mistake("a replay of nothing", consume);
    }
    this.#admissions.push(...admissions);
    for (const change of calls.filter(({ op }) => op !== "consume")) this.#checkChange(change, admissions, consumes);
    for (const conflict of consumes.filter(({ outcome }) => outcome === "reused id"))
      if (!this.#mayBeSentBefore(consumes, conflict, (other) => !hasSameCost(other, conflict)))
        this.#mistake("a conflict with nothing", conflict);
  }

  /** Every counter holds the admission as its newest event, or holds a newer one. */
  #checkCounted(consume: CallerCall, fromMs: number, calls: readonly CallerCall[]): void {
    const mayBeSettled = calls.some(({ op, sentAtMs, endedAtMs }) => {
      return op === "settle" && endedAtMs + this.margins.lateMs >= fromMs && sentAtMs <= consume.endedAtMs;
    });
    if (mayBeSettled || this.#mayBeForgotten(consume.counters, fromMs, consume.endedAtMs)) return;
    const mostAgeMs = consume.endedAtMs - fromMs + this.margins.clockMs;
    for (const { layer, key, windowMs, resetsInMs } of consume.standings)
      if (resetsInMs < windowMs - mostAgeMs) this.#mistake(`admitted, but not counted by ${layer} of ${key}`, consume);
  }

  /** Whether the allowing answer is about the last admission. Otherwise it is about a new one. */
  #belongsTo(last: Admission, consume: CallerCall): boolean {
    const isForgotten = this.#mayBeForgotten(consume.counters, last.fromMs, consume.endedAtMs);
    if (!isForgotten && this.#isIdKnown(last, consume)) {
      if (!hasSameCost(consume, last)) this.#mistake("admitted under an id that was used with another cost", consume);
      else if (consume.outcome === "admitted" && (last.hasFirstAnswer || consume.sentAtMs > last.toMs))
        this.#mistake("charged twice", consume);
      else {
        last.hasFirstAnswer ||= consume.outcome === "admitted";
        return true;
      }
      return false;
    }
    const { clockMs, lateMs, attemptMs } = this.margins;
    if (consume.outcome === "replayed") return consume.sentAtMs < last.toMs + idWindowMs(consume) + clockMs + lateMs;
    // Replays may be answered before the first answer, also where clocks jump by more than the id is known.
    if (!isForgotten && !last.hasFirstAnswer && hasSameCost(consume, last) && consume.sentAtMs <= last.toMs) {
      last.hasFirstAnswer = true;
      return true;
    }
    // An id that is sent again just after its key was forgotten may join an attempt from before.
    const isAtOnce = consume.endedAtMs < last.toMs + 2 * attemptMs + clockMs + lateMs;
    if (isForgotten && isAtOnce) last.toMs = consume.endedAtMs;
    return isForgotten && isAtOnce;
  }

  /** Whether the id was known by any clock when the answer was given. */
  #isIdKnown(last: Admission, { endedAtMs }: CallerCall): boolean {
    return endedAtMs < last.fromMs + idWindowMs(last) - this.margins.clockMs;
  }

  /** The earliest instant at which a call may have made this admission. */
  #earliestMs(consume: CallerCall, last: Admission | undefined, consumes: readonly CallerCall[]): number {
    const { clockMs, lateMs } = this.margins;
    const reachMs = idWindowMs(consume) + clockMs + lateMs;
    const lastKnownUntilMs = last ? last.fromMs + idWindowMs(last) - clockMs : Number.NEGATIVE_INFINITY;
    const mayHaveMadeIt = ({ outcome, sentAtMs, endedAtMs }: CallerCall) =>
      outcome !== "denied" &&
      outcome !== "reused id" &&
      sentAtMs <= consume.endedAtMs &&
      endedAtMs + lateMs + reachMs >= consume.sentAtMs &&
      (!last || sentAtMs > last.toMs || endedAtMs + lateMs >= lastKnownUntilMs);
    // A call may have charged late in its span: a torn id is charged once more, and answered as a replay.
    const earliest = consumes
      .filter(mayHaveMadeIt)
      .map(({ sentAtMs }) => Math.max(sentAtMs, consume.sentAtMs - reachMs));
    return Math.min(consume.sentAtMs, ...earliest);
  }

  /** Whether another consume, whatever its outcome, may be the one that this call found. */
  #mayBeSentBefore(
    consumes: readonly CallerCall[],
    call: CallerCall,
    isCandidate: (other: CallerCall) => boolean = () => true,
  ): boolean {
    const { clockMs, lateMs } = this.margins;
    return consumes.some(
      (other) =>
        other !== call &&
        isCandidate(other) &&
        other.sentAtMs <= call.endedAtMs &&
        other.endedAtMs + lateMs + idWindowMs(other) + clockMs >= call.sentAtMs,
    );
  }

  /** A settle or a release finds its decision exactly while the id is known. */
  #checkChange(change: CallerCall, admissions: readonly Admission[], consumes: readonly CallerCall[]): void {
    if (change.counters.length === 0) return;
    if (change.outcome === "changed" && !change.hasShadow && !this.#mayBeSentBefore(consumes, change))
      this.#mistake("changed, though forgotten", change);
    if (change.outcome !== "unknown decision") return;
    const isLost = admissions.some(
      (admission) =>
        admission.toMs <= change.sentAtMs &&
        this.#isIdKnown(admission, change) &&
        !this.#mayBeForgotten(change.counters, admission.fromMs, change.endedAtMs),
    );
    if (isLost) this.#mistake("unknown, though admitted", change);
  }

  /** Whether an admin may have had one of the keys forgotten between two instants. */
  #mayBeForgotten(counters: readonly Pick<Counter, "key">[], fromMs: number, toMs: number): boolean {
    return counters.some(({ key }) =>
      (this.#forgetsByKey.get(key) ?? []).some(
        ({ sentAtMs, endedAtMs }) => sentAtMs <= toMs && endedAtMs + this.margins.lateMs >= fromMs,
      ),
    );
  }

  /** The windows that hold more than their limits. */
  overAdmissions(): string[] {
    const byCounter = groupBy(
      this.#admissions.flatMap((admission) => admission.counters.map((counter) => ({ admission, counter }))),
      ({ admission, counter: { layer, key } }) => `${admission.policy} ${layer} ${key}`,
    );
    return [...byCounter].flatMap(([name, ofCounter]) => {
      const key = ofCounter[0]?.counter.key ?? "";
      const all = ofCounter.map(({ admission, counter }) => this.#countedAdmission(admission, counter));
      const byLimits = groupBy(
        all.filter(({ decidedBy }) => decidedBy),
        ({ decidedBy }) => `${JSON.stringify(decidedBy?.limits)} ${decidedBy?.override?.sentAtMs}`,
      );
      return [...byLimits.values()].flatMap((sameLimits) =>
        (sameLimits[0]?.decidedBy?.limits ?? []).flatMap((limit) =>
          this.#overAdmission(name, key, limit, sameLimits, all),
        ),
      );
    });
  }

  #countedAdmission(admission: Admission, counter: Counter): CountedAdmission {
    const { decisionName, fromMs, toMs, policy } = admission;
    const { layer } = counter;
    const cost = costFor(admission.cost, layer);
    const changes = (this.#callsByDecision.get(decisionName) ?? []).filter(({ sentAtMs }) => sentAtMs >= fromMs);
    const releases = changes.filter(({ op }) => op === "release");
    // A layer at a cost of 0 decides nothing.
    const decidedBy = cost > 0 ? this.#limitsDuring(policy, counter, fromMs, toMs) : undefined;
    return {
      ...admission,
      cost,
      settles: changes
        .filter(({ op }) => op === "settle")
        .flatMap((settle) => {
          const settled = settledFor(settle.cost, layer);
          return settled === undefined ? [] : [{ ...settle, cost: settled }];
        }),
      releasedMs: Math.min(Number.POSITIVE_INFINITY, ...releases.map(({ sentAtMs }) => sentAtMs)),
      decidedBy,
      retainMs: Math.max(idWindowMs(admission), decidedBy?.override ? longestWindowMs(decidedBy.limits) : 0),
    };
  }

  /** The limits that were certainly in force from `fromMs` to `toMs`: no limits under an exemption or a ban. */
  #limitsDuring(
    policy: string,
    { layer, key, limits }: Counter,
    fromMs: number,
    toMs: number,
  ): DecidingLimits | undefined {
    const { lateMs, clockMs, offsetsMs } = this.margins;
    const calls = (this.#overridesByKey.get(key) ?? []).filter(({ sentAtMs }) => sentAtMs <= toMs);
    const last = calls.filter(({ isAcknowledged }) => isAcknowledged).findLast(({ endedAtMs }) => endedAtMs <= fromMs);
    const isUncertain = calls.some((other) => other !== last && (!last || other.endedAtMs + lateMs >= last.sentAtMs));
    if (isUncertain) return undefined;
    const { override, endsAtMs = 0 } = last ?? {};
    if (!last || !override || fromMs + offsetsMs[0] - clockMs >= endsAtMs + lateMs) return { limits };
    if (toMs + offsetsMs[1] >= endsAtMs) return undefined;
    if (override.kind !== "limits") return { limits: [], override: last };
    const overriding = override.layers?.find((named) => named.policy === policy && named.layer === layer);
    return overriding ? { limits: overriding.limits, override: last } : { limits };
  }

  /**
   * Whichever of `sameLimits` was decided last, `limit` decided it, with every earlier one in the window. Reports the
   * first window that holds too much for any choice of the last one.
   */
  #overAdmission(
    name: string,
    key: string,
    limit: Limit,
    sameLimits: readonly CountedAdmission[],
    all: readonly CountedAdmission[],
  ): string[] {
    // Quick check: all of them together fit.
    const mostWeight = ({ cost, settles }: CountedAdmission) => Math.max(cost, ...settles.map((settle) => settle.cost));
    if (sumOf(all, mostWeight) <= limit.max) return [];
    for (const { toMs: untilMs, decidedBy } of sameLimits) {
      const isInWindow = (admission: CountedAdmission) =>
        admission.toMs <= untilMs &&
        untilMs - admission.fromMs < this.#countsForMs(admission, limit, decidedBy?.override) - this.margins.clockMs &&
        !this.#mayBeForgotten([{ key }], admission.fromMs, untilMs);
      const candidates = sameLimits.filter(isInWindow);
      const lastFromMs = Math.max(...candidates.map(({ fromMs }) => fromMs));
      const earlier = all.filter(
        (admission) => admission.toMs <= lastFromMs && !candidates.includes(admission) && isInWindow(admission),
      );
      const inWindow = [...candidates, ...earlier];
      const used = sumOf(inWindow, (admission) => this.#leastWeight(admission, limit, lastFromMs, untilMs));
      if (used > limit.max)
        return [
          `too much was admitted by ${name}: ${used} under ${JSON.stringify(limit)}, ` +
            inWindow.map(({ decisionName, fromMs, toMs }) => `${decisionName} at ${fromMs} to ${toMs}`).join(", "),
        ];
    }
    return [];
  }

  /** How long an admission counts in a limit: no longer than it is kept. An override keeps what counts when it is set. */
  #countsForMs({ fromMs, retainMs }: CountedAdmission, { windowMs }: Limit, override: AdminCall | undefined): number {
    const isKeptByOverride = override && override.endedAtMs + this.margins.clockMs < fromMs + retainMs;
    return isKeptByOverride ? windowMs : Math.min(windowMs, retainMs);
  }

  /** The least that an admission may weigh to a decision between two instants. */
  #leastWeight(
    { cost, settles, releasedMs, fromMs, toMs, ...admission }: CountedAdmission,
    limit: Limit,
    afterMs: number,
    untilMs: number,
  ): number {
    if (limit.kind === "concurrent") return cost === 0 || releasedMs <= untilMs ? 0 : 1;
    const costs = settles.filter(({ sentAtMs }) => sentAtMs <= untilMs).map((settle) => settle.cost);
    const knownUntilMs = fromMs + idWindowMs(admission) - this.margins.clockMs;
    const isSettled = settles.some(
      ({ outcome, sentAtMs, endedAtMs }) =>
        outcome === "changed" && sentAtMs >= toMs && endedAtMs <= Math.min(afterMs, knownUntilMs),
    );
    return isSettled ? Math.min(...costs) : Math.min(cost, ...costs);
  }

  #mistake(text: string, { op, decisionName, sentAtMs, endedAtMs, outcome }: CallerCall): void {
    this.mistakes.push(`${text}: ${op} ${decisionName}, sent at ${sentAtMs}, ${outcome} at ${endedAtMs}`);
  }
}

function hasSameCost(one: Pick<CallerCall, "cost" | "counters">, other: Pick<CallerCall, "cost">): boolean {
  return isSameFor(one.counters, one.cost, other.cost);
}

function isAllowed({ outcome }: CallerCall): boolean {
  return outcome === "admitted" || outcome === "replayed";
}

/** How long an id is known: the longest window of the policy's own limits, whatever overrides them. */
function idWindowMs({ counters }: Pick<CallerCall, "counters">): number {
  return Math.max(...counters.map(({ limits }) => longestWindowMs(limits)));
}

function sumOf<T>(items: readonly T[], weightOf: (item: T) => number): number {
  return items.reduce((sum, item) => sum + weightOf(item), 0);
}
