import { groupBy } from "../../tools/group-by";
import { costUnder, decidingLimits, keyOf, type Limit, type TraceRequest } from "./traces";

/** The wait that a denial reports: a duration from the decision, or an instant since the epoch. */
export interface ReportedWait {
  readonly from: "decision" | "epoch";
  readonly ms: number;
  /** The peer rounds the wait up to a multiple of this. */
  readonly roundedUpToMs: number;
}

/** A request and its outcome. The peer decided it at some unknown instant from `sentMs` to `receivedMs`. */
export interface Observed {
  readonly request: TraceRequest;
  readonly sentMs: number;
  /** Infinity without an answer: the peer may still decide. */
  readonly receivedMs: number;
  readonly outcome: "allowed" | "denied" | "unknown";
  readonly reportedWait?: ReportedWait | undefined;
  /** The error behind an unknown outcome, if there was one. */
  readonly failure?: string;
}

export interface Verdict {
  readonly decisions: number;
  readonly admitted: number;
  readonly unknown: number;
  readonly admittedTooMany: number;
  /** Denials of a cost that fitted. Those that only a wrong charge can explain count as one of the next two instead. */
  readonly deniedTooMany: number;
  readonly chargedAlthoughDenied: number;
  readonly chargedTwice: number;
  /** The error of the most wrong wait: below zero too short, above zero too long. */
  readonly worstWaitMs: number;
}

/** The charge of a message, recorded at some instant between two. */
interface Charge {
  readonly request: TraceRequest;
  readonly fromMs: number;
  readonly toMs: number;
  /** False if it may not have been recorded. */
  readonly isCertain: boolean;
}

/**
 * Judges a peer by docs/api.md: at `t` a cost fits if the charges that this peer recorded in `(t - w, t]` leave room for it; a
 * denial records nothing; a message is charged once. Counts only what is wrong wherever the instants lie between sending
 * and receiving. Shares no code with what it judges.
 * @param windowsSeen how many windows back the peer looks: 2 if it estimates from the previous window
 */
export function judge(observed: readonly Observed[], limits: readonly Limit[], windowsSeen: 1 | 2 = 1): Verdict {
  const charges = chargesOf(observed);
  const wrongDenials = observed.map((each) => wrongDenial(each, { observed, charges, limits, windowsSeen }));
  const count = (kind: WrongDenial) => wrongDenials.filter((each) => each === kind).length;
  // No wait of a wrong denial can be right.
  const waits = observed.map((each, i) => (wrongDenials[i] ? 0 : waitError(each, charges, limits)));
  return {
    decisions: observed.length,
    admitted: observed.filter(({ outcome }) => outcome === "allowed").length,
    unknown: observed.filter(({ outcome }) => outcome === "unknown").length,
    admittedTooMany: charges.filter((charge) => isTooMuch(charge, charges, limits)).length,
    deniedTooMany: count("denied"),
    chargedAlthoughDenied: count("charged although denied"),
    chargedTwice: count("charged twice"),
    worstWaitMs: waits.reduce((worst, wait) => (Math.abs(wait) > Math.abs(worst) ? wait : worst), 0),
  };
}

/** The charge of each message: made by its first admitted attempt, whichever that is of concurrent ones. */
function chargesOf(observed: readonly Observed[]): Charge[] {
  const messages = groupBy(observed, ({ request }) => request.key);
  return [...messages.values()].flatMap((attempts) => {
    const possible = attempts.filter(({ outcome }) => outcome !== "denied");
    const admitted = possible.filter(({ outcome }) => outcome === "allowed");
    const [first] = possible;
    if (!first) return [];
    const fromMs = Math.min(...possible.map(({ sentMs }) => sentMs));
    const toMs =
      admitted.length > 0
        ? Math.min(...admitted.map(({ receivedMs }) => receivedMs))
        : Math.max(...possible.map(({ receivedMs }) => receivedMs));
    return [{ request: first.request, fromMs, toMs, isCertain: admitted.length > 0 }];
  });
}

/** The charges that count by the same key as this request under this limit. */
function sharing(charges: readonly Charge[], limit: Limit, request: TraceRequest): Charge[] {
  return charges.filter((charge) => keyOf(limit, charge.request) === keyOf(limit, request));
}

const sum = (charges: readonly Charge[], limit: Limit): number =>
  charges.reduce((total, { request }) => total + costUnder(limit, request), 0);

/**
 * Whether the charge and the certain charges in one window before it exceed a limit. Then one of them was admitted too
 * many, wherever their instants lie, and the one that was answered last counts as that one.
 */
function isTooMuch(charge: Charge, charges: readonly Charge[], limits: readonly Limit[]): boolean {
  const at = charges.indexOf(charge);
  const isEarlier = (other: Charge) =>
    other.toMs < charge.toMs || (other.toMs === charge.toMs && charges.indexOf(other) <= at);
  return (
    charge.isCertain &&
    decidingLimits(limits, charge.request).some((limit) => {
      const together = sharing(charges, limit, charge.request).filter(
        (other) => other.isCertain && isEarlier(other) && other.fromMs > charge.toMs - limit.windowMs,
      );
      return sum(together, limit) > limit.max;
    })
  );
}

type WrongDenial = "denied" | "charged although denied" | "charged twice";

/** All that is known about a peer. */
interface Evidence {
  readonly observed: readonly Observed[];
  readonly charges: readonly Charge[];
  readonly limits: readonly Limit[];
  readonly windowsSeen: 1 | 2;
}

/** How a denial is wrong wherever the instants lie, undefined if it may be right. */
function wrongDenial(denial: Observed, evidence: Evidence): WrongDenial | undefined {
  if (denial.outcome !== "denied") return undefined;
  const { key } = denial.request;
  const others = evidence.charges.filter(({ request }) => request.key !== key);
  const wasAdmitted = evidence.charges.some(
    ({ request, isCertain, toMs }) => isCertain && request.key === key && toMs <= denial.sentMs,
  );
  if (wasAdmitted) return "charged twice";
  return mayBeRight(denial, others, evidence.limits) ? undefined : explain(denial, others, evidence);
}

/** Whether some limit had no room at some instant of the possible ones. */
function mayBeRight({ request, sentMs, receivedMs }: Observed, others: readonly Charge[], limits: readonly Limit[]) {
  // The use can only grow at these instants, so the fullest instant is among them.
  const instants = [sentMs, ...others.map(({ fromMs }) => fromMs).filter((ms) => ms > sentMs && ms <= receivedMs)];
  return decidingLimits(limits, request).some((limit) => {
    const shared = sharing(others, limit, request);
    const usedAt = (t: number) =>
      sum(
        shared.filter(({ fromMs, toMs }) => fromMs <= t && toMs > t - limit.windowMs),
        limit,
      );
    return instants.some((t) => usedAt(t) > limit.max - costUnder(limit, request));
  });
}

/** The wrong charge that explains the denial, for a peer that looks back so many windows. */
function explain(
  denial: Observed,
  others: readonly Charge[],
  { observed, charges, limits, windowsSeen }: Evidence,
): WrongDenial {
  const { request, sentMs, receivedMs } = denial;
  const isExplainedBy = (more: readonly Charge[]) =>
    decidingLimits(limits, request).some((limit) => {
      const sinceMs = sentMs - windowsSeen * limit.windowMs;
      const shared = sharing([...others, ...more], limit, request);
      const inReach = shared.filter(({ fromMs, toMs }) => fromMs <= receivedMs && toMs > sinceMs);
      return sum(inReach, limit) > limit.max - costUnder(limit, request);
    });
  const attempts = (of: Observed["outcome"]): Charge[] =>
    observed
      .filter((each) => each !== denial && each.outcome === of)
      .map((each) => ({ request: each.request, fromMs: each.sentMs, toMs: each.receivedMs, isCertain: true }));
  const admittedAgain = attempts("allowed").filter(({ request, fromMs }) =>
    charges.some((charge) => charge.request.key === request.key && charge.fromMs < fromMs),
  );

  if (isExplainedBy([])) return "denied";
  if (isExplainedBy(admittedAgain)) return "charged twice";
  if (isExplainedBy(attempts("denied"))) return "charged although denied";
  return isExplainedBy([...admittedAgain, ...attempts("denied")]) ? "charged twice" : "denied";
}

/** The error of the reported wait against the least wait after which the cost fits if nobody else consumes. */
function waitError(
  { request, sentMs, receivedMs, outcome, reportedWait }: Observed,
  charges: readonly Charge[],
  limits: readonly Limit[],
) {
  if (outcome !== "denied" || !reportedWait) return 0;
  const known = charges.filter(({ isCertain, toMs }) => isCertain && toMs <= sentMs);
  const possible = charges.filter(({ fromMs }) => fromMs <= receivedMs);
  const earliestMs = Math.max(
    sentMs,
    fitsAt(request, limits, known, ({ fromMs }) => fromMs),
  );
  const latestMs = Math.max(
    receivedMs,
    fitsAt(request, limits, possible, ({ toMs }) => toMs),
  );
  const byMs = reportedWait.ms + (reportedWait.from === "decision" ? receivedMs : 0);
  const afterMs = reportedWait.ms + (reportedWait.from === "decision" ? sentMs : 0) - reportedWait.roundedUpToMs;
  if (byMs < earliestMs) return byMs - earliestMs;
  return Math.max(0, afterMs - latestMs);
}

/** The first instant at which the request fits every limit, if the charges were recorded as `recordedAt` says. */
function fitsAt(
  request: TraceRequest,
  limits: readonly Limit[],
  charges: readonly Charge[],
  recordedAt: (charge: Charge) => number,
): number {
  return Math.max(
    ...decidingLimits(limits, request).map((limit) => {
      const shared = sharing(charges, limit, request).sort((a, b) => recordedAt(a) - recordedAt(b));
      const mostUsed = limit.max - costUnder(limit, request);
      let used = sum(shared, limit);
      for (const charge of shared) {
        if (used <= mostUsed) break;
        used -= costUnder(limit, charge.request);
        if (used <= mostUsed) return recordedAt(charge) + limit.windowMs;
      }
      return Number.NEGATIVE_INFINITY;
    }),
  );
}
