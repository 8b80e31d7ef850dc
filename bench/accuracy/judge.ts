import type { Limit, TraceRequest } from "./traces";

/** When a denied request was told that it fits: so long after the decision, or at an instant; rounded up to so much. */
export interface Told {
  readonly from: "decision" | "epoch";
  readonly ms: number;
  readonly roundedUpToMs: number;
}

/** A request and what came of it. It was decided at some instant from `sentMs` to `receivedMs`, nobody outside knows which. */
export interface Observed {
  readonly request: TraceRequest;
  readonly sentMs: number;
  /** Infinity when nothing came back: it may still be decided. */
  readonly receivedMs: number;
  readonly outcome: "allowed" | "denied" | "unknown";
  readonly told?: Told | undefined;
  /** Why it is unknown, where somebody said so. */
  readonly failure?: string;
}

export interface Verdict {
  readonly decisions: number;
  readonly admitted: number;
  readonly unknown: number;
  readonly admittedTooMany: number;
  /** Denied though everything fitted; those that a charge must explain stand in the next two instead. */
  readonly deniedTooMany: number;
  readonly chargedAlthoughDenied: number;
  readonly chargedTwice: number;
  /** The wait that was told most wrongly: below zero too short, above zero too long. */
  readonly worstWaitMs: number;
}

/** What a message costs, recorded at some instant between the two. */
interface Charge {
  readonly request: TraceRequest;
  readonly fromMs: number;
  readonly toMs: number;
  /** False when nobody knows whether it was recorded. */
  readonly isCertain: boolean;
}

/**
 * Holds a peer to the sentence of docs/api.md: at `t` a cost fits when what was recorded in `(t - w, t]`, by this peer itself,
 * leaves room for it; a denied request records nothing, and a message is charged once. Shares no code with what it judges.
 * Only what is wrong wherever the instants lie between sending and receiving is counted.
 * @param windowsSeen how many windows back the peer looks: one that estimates from the window before looks back two
 */
export function judge(observed: readonly Observed[], limits: readonly Limit[], windowsSeen: 1 | 2 = 1): Verdict {
  const charges = chargesOf(observed);
  const wrongs = observed.map((each) => wrongDenial(each, { observed, charges, limits, windowsSeen }));
  const count = (wrong: Wrong) => wrongs.filter((each) => each === wrong).length;
  // Of a denial that is wrong itself every wait would be.
  const waits = observed.map((each, i) => (wrongs[i] ? 0 : waitError(each, charges, limits)));
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

/** A message is charged by the first of its attempts that is admitted, whichever that is of those under way at once. */
function chargesOf(observed: readonly Observed[]): Charge[] {
  const messages = new Map<string, Observed[]>();
  for (const each of observed) messages.set(each.request.key, [...(messages.get(each.request.key) ?? []), each]);
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

const keyOf = ({ layer }: Limit, { user, ip }: TraceRequest): string => (layer === "caller" ? user : ip);

/** Those that count by the key that this request has under this limit. */
function sharing(charges: readonly Charge[], limit: Limit, request: TraceRequest): Charge[] {
  return charges.filter((charge) => keyOf(limit, charge.request) === keyOf(limit, request));
}

const sum = (charges: readonly Charge[]): number => charges.reduce((total, { request }) => total + request.cost, 0);

/**
 * Together with what was certainly recorded within one window it costs more than the limit. One of them was admitted too
 * many, wherever their instants lie; it is put down to the one that was answered last.
 */
function isTooMuch(charge: Charge, charges: readonly Charge[], limits: readonly Limit[]): boolean {
  const at = charges.indexOf(charge);
  const isEarlier = (other: Charge) =>
    other.toMs < charge.toMs || (other.toMs === charge.toMs && charges.indexOf(other) <= at);
  return (
    charge.isCertain &&
    limits.some((limit) => {
      const together = sharing(charges, limit, charge.request).filter(
        (other) => other.isCertain && isEarlier(other) && other.fromMs > charge.toMs - limit.windowMs,
      );
      return sum(together) > limit.max;
    })
  );
}

type Wrong = "denied" | "charged although denied" | "charged twice";

/** All that is known of a peer. */
interface Evidence {
  readonly observed: readonly Observed[];
  readonly charges: readonly Charge[];
  readonly limits: readonly Limit[];
  readonly windowsSeen: 1 | 2;
}

/** What is wrong with a denial, if anything is, wherever the instants lie. */
function wrongDenial(denial: Observed, evidence: Evidence): Wrong | undefined {
  if (denial.outcome !== "denied") return undefined;
  const { key } = denial.request;
  const others = evidence.charges.filter(({ request }) => request.key !== key);
  const wasAdmitted = evidence.charges.some(
    ({ request, isCertain, toMs }) => isCertain && request.key === key && toMs <= denial.sentMs,
  );
  if (wasAdmitted) return "charged twice";
  return mayBeRight(denial, others, evidence.limits) ? undefined : explain(denial, others, evidence);
}

/** Whether some limit had no room at some instant at which it may have been decided. */
function mayBeRight({ request, sentMs, receivedMs }: Observed, others: readonly Charge[], limits: readonly Limit[]) {
  // What may be recorded only grows at these instants, so that one of them is the worst.
  const instants = [sentMs, ...others.map(({ fromMs }) => fromMs).filter((ms) => ms > sentMs && ms <= receivedMs)];
  return limits.some((limit) => {
    const shared = sharing(others, limit, request);
    const usedAt = (t: number) => sum(shared.filter(({ fromMs, toMs }) => fromMs <= t && toMs > t - limit.windowMs));
    return instants.some((t) => usedAt(t) > limit.max - request.cost);
  });
}

/** What must have been recorded that should not have been, for a peer that looks so far back to deny this. */
function explain(
  denial: Observed,
  others: readonly Charge[],
  { observed, charges, limits, windowsSeen }: Evidence,
): Wrong {
  const { request, sentMs, receivedMs } = denial;
  const isExplainedBy = (more: readonly Charge[]) =>
    limits.some((limit) => {
      const sinceMs = sentMs - windowsSeen * limit.windowMs;
      const shared = sharing([...others, ...more], limit, request);
      return (
        sum(shared.filter(({ fromMs, toMs }) => fromMs <= receivedMs && toMs > sinceMs)) > limit.max - request.cost
      );
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

/** By how much the told wait misses the least one after which this cost fits if nobody else consumes. */
function waitError(
  { request, sentMs, receivedMs, outcome, told }: Observed,
  charges: readonly Charge[],
  limits: readonly Limit[],
) {
  if (outcome !== "denied" || !told) return 0;
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
  const byMs = told.ms + (told.from === "decision" ? receivedMs : 0);
  const afterMs = told.ms + (told.from === "decision" ? sentMs : 0) - told.roundedUpToMs;
  if (byMs < earliestMs) return byMs - earliestMs;
  return Math.max(0, afterMs - latestMs);
}

/** The first instant at which it fits every limit, if these were recorded at the instants that `recordedAt` says. */
function fitsAt(
  request: TraceRequest,
  limits: readonly Limit[],
  charges: readonly Charge[],
  recordedAt: (charge: Charge) => number,
): number {
  return Math.max(
    ...limits.map((limit) => {
      const shared = sharing(charges, limit, request).sort((a, b) => recordedAt(a) - recordedAt(b));
      let used = sum(shared);
      for (const charge of shared) {
        if (used <= limit.max - request.cost) break;
        used -= charge.request.cost;
        if (used <= limit.max - request.cost) return recordedAt(charge) + limit.windowMs;
      }
      return Number.NEGATIVE_INFINITY;
    }),
  );
}
