/** What the callers asked for and were told, and whether what is stored can be so. */

export interface Wish {
  readonly id: string;
  readonly user: string;
  readonly ip: string;
  readonly cost: number;
  /** Undefined while nobody knows. */
  outcome?: "admitted" | "denied";
  /** The cost that it was settled at, once that is acknowledged; NaN while a settle is under way. */
  settled?: number;
  /** How many answers said that it was charged by them. */
  firsts: number;
}

export interface Event {
  readonly id: string;
  readonly at: string;
  readonly cost: number;
}

export interface Counter {
  readonly layer: string;
  readonly events_total: number;
  readonly events: readonly Event[];
  readonly limits: readonly { readonly window_seconds: number; readonly limit: number; readonly used: number }[];
}

export interface Verdict {
  overAdmissions: number;
  lost: number;
  chargedTwice: number;
  /** Denied in the end and stored all the same: faults may leave that for a window. */
  deniedYetStored: number;
  /** What the first of them were. */
  readonly details: string[];
}

export const newVerdict = (): Verdict => ({
  overAdmissions: 0,
  lost: 0,
  chargedTwice: 0,
  deniedYetStored: 0,
  details: [],
});

/**
 * Holds a counter against all that was asked of its key. The windows are added up from the times that the service gave its
 * events, each by itself and with no code of the service's; that nothing was charged above what a settle made of it is
 * for the keys alone whose costs nobody changes.
 */
export function judge(
  counter: Counter | undefined,
  key: string,
  wishes: readonly Wish[],
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
  const asked = new Set(wishes.map(({ id }) => id));
  for (const { id } of events) if (!asked.has(id)) blame("chargedTwice", `nobody asked for ${id}`);

  // Only the newest are listed; what is older than all of them may well be there.
  const isComplete = events.length === (counter?.events_total ?? 0);
  for (const { id, outcome, cost, settled, firsts } of wishes) {
    const event = byId.get(id);
    if (firsts > 1) blame("chargedTwice", `${id} was told ${firsts} times that it is the first`);
    if (outcome === "denied" && event) verdict.deniedYetStored++;
    if (outcome !== "admitted") continue;
    if (!event && isComplete) blame("lost", id);
    const isKnown = !Number.isNaN(settled);
    if (event && isKnown && event.cost !== (settled ?? cost))
      blame("lost", `${id} costs ${event.cost}, told ${settled ?? cost}`);
  }
  const used = counter?.limits.at(-1)?.used ?? 0;
  const sum = events.reduce((total, { cost }) => total + cost, 0);
  if (isComplete && used !== sum) blame("chargedTwice", `in use are ${used}, by events ${sum}`);
  if (isPlain)
    for (const limit of counter?.limits ?? [])
      blameFullWindows(events, limit, (detail) => blame("overAdmissions", detail));
}

/** Every window that ends with an event: (t - w, t] holds at most the limit. */
function blameFullWindows(
  events: readonly Event[],
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
