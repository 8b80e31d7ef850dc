/** Compares what callers sent and were answered with the events that the service stores. */

/** A consume under one id, and what its answers say. */
export interface TrackedRequest {
  readonly id: string;
  readonly user: string;
  readonly ip: string;
  readonly cost: number;
  /** Undefined until an answer arrives. */
  outcome?: "admitted" | "denied";
  /** The acknowledged cost of a settle. NaN while a settle is in flight. */
  settledCost?: number;
  /** How many answers say that it was charged just then. More than 1 is a double charge. */
  firstAnswers: number;
}

export interface StoredEvent {
  readonly id: string;
  readonly at: string;
  readonly cost: number;
}

export interface Counter {
  readonly layer: string;
  readonly events_total: number;
  readonly events: readonly StoredEvent[];
  readonly limits: readonly { readonly window_seconds: number; readonly limit: number; readonly used: number }[];
}

export interface Verdict {
  overAdmissions: number;
  lost: number;
  chargedTwice: number;
  /** Denied in the end, but stored. Faults may leave such a charge for one window. */
  deniedButStored: number;
  /** The first mistakes in words. */
  readonly details: string[];
}

export const newVerdict = (): Verdict => ({
  overAdmissions: 0,
  lost: 0,
  chargedTwice: 0,
  deniedButStored: 0,
  details: [],
});

/**
 * Judges a counter by all requests that were sent for its key. Adds up each window from the times of the stored events,
 * without any code of the service.
 * @param isPlain no cost was settled, so that no window may hold more than its limit
 */
export function judge(
  counter: Counter | undefined,
  key: string,
  requests: readonly TrackedRequest[],
  isPlain: boolean,
  verdict: Verdict,
): void {
  const events = counter?.events ?? [];
  const blame = (what: "overAdmissions" | "lost" | "chargedTwice", detail: string) => {
    verdict[what]++;
    if (verdict.details.length < 20) verdict.details.push(`${what}: ${key}, ${detail}`);
  };
  const byId = new Map(events.map((event) => [event.id, event]));
  if (byId.size < events.length) blame("chargedTwice", "an id is stored twice");
  const sentIds = new Set(requests.map(({ id }) => id));
  for (const { id } of events) if (!sentIds.has(id)) blame("chargedTwice", `${id} was never sent`);

  // The service lists the newest events only, so an older event may be stored too.
  const isComplete = events.length === (counter?.events_total ?? 0);
  for (const { id, outcome, cost, settledCost, firstAnswers } of requests) {
    const event = byId.get(id);
    if (firstAnswers > 1) blame("chargedTwice", `${firstAnswers} answers say that ${id} was charged just then`);
    if (outcome === "denied" && event) verdict.deniedButStored++;
    if (outcome !== "admitted") continue;
    if (!event && isComplete) blame("lost", id);
    const isKnown = !Number.isNaN(settledCost);
    if (event && isKnown && event.cost !== (settledCost ?? cost))
      blame("lost", `${id} is stored with cost ${event.cost}, but ${settledCost ?? cost} was acknowledged`);
  }
  const used = counter?.limits.at(-1)?.used ?? 0;
  const sum = events.reduce((total, { cost }) => total + cost, 0);
  if (isComplete && used !== sum) blame("chargedTwice", `${used} in use, but the events cost ${sum}`);
  if (isPlain)
    for (const limit of counter?.limits ?? [])
      blameFullWindows(events, limit, (detail) => blame("overAdmissions", detail));
}

/** Reports each window `(t - w, t]` that ends with an event and holds more than the limit. */
function blameFullWindows(
  events: readonly StoredEvent[],
  { window_seconds, limit }: Counter["limits"][number],
  blame: (detail: string) => void,
): void {
  const inOrder = events.map(({ at, cost }) => ({ atMs: Date.parse(at), cost })).sort((a, b) => a.atMs - b.atMs);
  let first = 0;
  let sum = 0;
  for (const { atMs, cost } of inOrder) {
    sum += cost;
    while ((inOrder[first]?.atMs ?? atMs) <= atMs - window_seconds * 1_000) sum -= inOrder[first++]?.cost ?? 0;
    if (sum > limit) blame(`${sum} of ${limit} in the ${window_seconds} s up to ${new Date(atMs).toISOString()}`);
  }
}
