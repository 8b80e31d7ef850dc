import { type Limit, LONGEST_WINDOW_MS } from "../src/core/limit";
import { EventLog } from "../src/core/sliding-window";
import type { CounterState, LayerState, Override, PolicyState } from "./wire";

/** An admitted event. */
export interface CountedEvent {
  readonly id: string;
  readonly atMs: number;
  readonly cost: number;
  /** The cost at admission, if the event was settled at another cost. */
  readonly admittedCost?: number | undefined;
  /** The event takes no place in a concurrent limit any more. */
  readonly released?: boolean | undefined;
}

/** How long a cost has to wait if nobody else consumes. */
export type Wait =
  | {
      readonly kind: "in";
      readonly ms: number;
      /** A release of a concurrent decision ends the wait earlier. */
      readonly orSooner?: true | undefined;
    }
  /** The cost is above a limit. */
  | { readonly kind: "never" }
  /** It depends on older events than the service lists. */
  | { readonly kind: "unknown" };

const NOW: Wait = { kind: "in", ms: 0 };

export function limitOf({ limit, window_seconds, concurrent }: LayerState["limits"][number]): Limit {
  return { ...(concurrent && { kind: "concurrent" }), max: limit, windowMs: window_seconds * 1_000 };
}

/** Whether the limit is on costs. A concurrent limit is on events that are not released. */
export function isCostLimit({ kind }: Limit): boolean {
  return kind === undefined;
}

/** The events of a counter, oldest first, including those settled at 0. */
export function admittedIn({ events }: CounterState): CountedEvent[] {
  return events
    .map(({ id, at, cost, admitted_cost: admittedCost, released }) => ({
      id,
      atMs: Date.parse(at),
      cost,
      admittedCost,
      released,
    }))
    .reverse();
}

/** The events that a limit counts, oldest first: those with a cost, or for a concurrent limit those that are not released. */
export function eventsOf(counter: CounterState, limit: Limit): CountedEvent[] {
  return admittedIn(counter).filter((event) => weightOf(event, limit) > 0);
}

/** How much an event takes of a limit. */
export function weightOf({ cost, released }: CountedEvent, limit: Limit): number {
  if (isCostLimit(limit)) return cost;
  return released ? 0 : 1;
}

/** The events in a window that ends now. */
export function inWindow(events: readonly CountedEvent[], windowMs: number, nowMs: number): CountedEvent[] {
  return events.filter(({ atMs }) => atMs > nowMs - windowMs);
}

/** The wait of a cost for one limit, by the service's own code over the same events. */
export function waitOf(counter: CounterState, limit: Limit, cost: number, nowMs: number): Wait {
  if (isCostLimit(limit) && cost > limit.max) return { kind: "never" };
  // Older events that are not listed count too, and leave first.
  if (!isWhole(counter, limit, nowMs)) return { kind: "unknown" };
  const events = admittedIn(counter);
  const log = new EventLog();
  // The service lists only events that it keeps.
  for (const { atMs, cost, released = false } of events)
    log.record({ atMs, cost, released, retainMs: LONGEST_WINDOW_MS });
  const { fitsInMs } = log.standing(limit, cost, Math.max(nowMs, events.at(-1)?.atMs ?? nowMs));
  return { kind: "in", ms: fitsInMs, ...(!isCostLimit(limit) && fitsInMs > 0 && { orSooner: true }) };
}

/** Whether all events in the window are listed. */
export function isWhole({ events, events_total }: CounterState, { windowMs }: Limit, nowMs: number): boolean {
  const oldest = events.at(-1);
  return events.length === events_total || (oldest !== undefined && Date.parse(oldest.at) <= nowMs - windowMs);
}

/** Whether the override applies to the counter: bans and exemptions to every counter of the key, limits to named layers. */
export function isOverridden({ policy, layer }: CounterState, { kind, limits = [] }: Override): boolean {
  return kind !== "limits" || limits.some((named) => named.policy === policy && named.layer === layer);
}

/** The longest of several waits, since all limits must admit. */
export function longest(waits: readonly Wait[]): Wait {
  return waits.reduce((longest, wait) => {
    if (longest.kind === "never" || wait.kind === "never") return { kind: "never" };
    if (longest.kind === "unknown" || wait.kind === "unknown") return { kind: "unknown" };
    if (wait.ms === longest.ms) return wait.orSooner ? longest : wait;
    return wait.ms > longest.ms ? wait : longest;
  }, NOW);
}

/**
 * The largest cost that the service accepts. It refuses a cost above a limit of the policy's live layers, whatever the
 * override of the key.
 */
export function largestCostOf({ layers }: PolicyState): number {
  return smallestMax(layers.filter(({ mode }) => mode === "live").flatMap(({ limits }) => limits.map(limitOf)));
}

function smallestMax(limits: readonly Limit[]): number {
  return Math.min(...limits.filter(isCostLimit).map(({ max }) => max));
}

/** The wait of a cost for a counter: under the override of its key until that ends, then under the policy's `own` limits. */
export function waitOfCounter(
  counter: CounterState,
  own: readonly Limit[],
  override: Override | null,
  cost: number,
  nowMs: number,
): Wait {
  if (cost > smallestMax(own)) return { kind: "never" };
  const under = (limits: readonly Limit[]) => longest(limits.map((limit) => waitOf(counter, limit, cost, nowMs)));
  const endsInMs = override === null ? 0 : Date.parse(override.expires_at) - nowMs;
  const inForce = counter.limits.map(limitOf);
  if (override === null || endsInMs <= 0 || !isOverridden(counter, override)) return under(inForce);
  if (override.kind === "exempt") return NOW;
  const until = override.kind === "limits" ? under(inForce) : ({ kind: "never" } as const);
  if (until.kind === "in" && until.ms < endsInMs) return until;
  if (until.kind === "unknown") return until;
  return longest([{ kind: "in", ms: endsInMs }, under(own)]);
}
