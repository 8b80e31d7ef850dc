import type { Cost } from "../../src/core/cost";
import type { Limit } from "../../src/core/limit";
import type { KeyOverride, OverrideKind } from "../../src/core/override";
import type { Counter, EventQuestion, Question } from "../../src/object/protocol";
import { costFor } from "./costs";
import { eventNameOf } from "./record";

export interface ModelEvent {
  readonly name: string;
  readonly id: string;
  /** The identity of the request, with the mode of its layers. */
  readonly identity: string;
  /** The object and the key. */
  readonly location: string;
  readonly atMs: number;
  /** How long the id is known. */
  readonly windowMs: number;
  /** The event's own retention. The event is also kept as long as an earlier one is. */
  readonly retainMs: number;
  /** The index of the execution that recorded the event. */
  readonly execution: number;
  readonly counters: readonly Counter[];
  readonly policy: string;
  readonly admittedCost: Cost;
  /** The cost that counts in each layer. */
  readonly costs: Map<string, number>;
  /** The event no longer takes a place in a concurrent limit. */
  isReleased: boolean;
  /** The attempts that rely on the event, and those that set its time. */
  readonly claims: Set<string>;
  readonly makers: Set<string>;
}

/** The limits that a counter holds at an instant: its own, or those of an override. */
export interface LimitsInForce {
  readonly kind: OverrideKind | undefined;
  readonly limits: readonly Limit[];
  readonly endsAtMs: number;
}

/** A weight that is in use until it leaves the window. */
export interface Leaving {
  readonly inMs: number;
  readonly weight: number;
}

/**
 * A model of the objects: a list of events for each key in each object, kept for ever and added up, and the overrides. It
 * shares nothing with the code under test but the types of the protocol.
 */
export class Model {
  readonly events = new Map<string, ModelEvent[]>();
  readonly overrides = new Map<string, KeyOverride>();
  /** The names of events that admins had forgotten, by location. */
  readonly #forgotten = new Map<string, Set<string>>();

  constructor(
    /** How many events a counter holds at most. */
    private readonly mostEvents: number,
    /** How long before the end of its retention an event takes no more room. */
    private readonly marginMs: number,
  ) {}

  limitsInForce(object: string, policy: string, { layer, key, limits }: Counter, tMs: number): LimitsInForce {
    const override = this.overrides.get(locationOf(object, key));
    const own = { kind: undefined, limits, endsAtMs: Number.NEGATIVE_INFINITY };
    if (!override || tMs >= override.endsAtMs) return own;
    const { kind, endsAtMs } = override;
    if (kind !== "limits") return { kind, limits, endsAtMs };
    const overriding = layerLimitsOf(override, policy, layer);
    return overriding ? { kind, limits: overriding.limits, endsAtMs } : own;
  }

  fits(object: string, { policy, cost, counters }: Question, tMs: number): boolean {
    return counters.every((counter) => {
      const { kind, limits } = this.limitsInForce(object, policy, counter, tMs);
      if (!this.#hasRoom(object, policy, counter, tMs)) return false;
      const ofLayer = costFor(cost, counter.layer);
      if (ofLayer === 0) return true;
      if (kind === "ban") return false;
      if (kind === "exempt") return true;
      const kept = this.#keptEvents(object, policy, counter, tMs);
      return limits.every((limit) => admits(limit, counter, kept, ofLayer, tMs));
    });
  }

  /** The weight in the limit's window. */
  used(object: string, policy: string, counter: Counter, limit: Limit, tMs: number): number {
    return weightOf(limit, counter, this.#keptEvents(object, policy, counter, tMs), tMs);
  }

  /** What a limit counts, and when each part of it leaves the window. */
  leavings(object: string, policy: string, counter: Counter, limit: Limit, tMs: number): Leaving[] {
    return this.#keptEvents(object, policy, counter, tMs)
      .filter(({ atMs }) => atMs > tMs - limit.windowMs)
      .map((event) => ({ inMs: event.atMs + limit.windowMs - tMs, weight: weightOf(limit, counter, [event], tMs) }));
  }

  /**
   * How long `cost` has to wait: until the limit in force admits it or, once the override has ended, until all of the
   * counter's own limits do. The first limit with the longest window waits for room too. Tries each instant at which
   * anything may change, over the events kept at `atMs`.
   */
  waitMs(object: string, policy: string, counter: Counter, limit: Limit, cost: number, atMs: number): number {
    const { kind, limits, endsAtMs } = this.limitsInForce(object, policy, counter, atMs);
    const kept = this.#keptEvents(object, policy, counter, atMs);
    const isLongest = limits.find(({ windowMs }) => limits.every((other) => other.windowMs <= windowMs)) === limit;
    const fitsAt = (tMs: number) => {
      if (isLongest && !this.#hasRoom(object, policy, counter, tMs)) return false;
      if (cost === 0) return true;
      if (kind === undefined) return admits(limit, counter, kept, cost, tMs);
      if (tMs >= endsAtMs) return counter.limits.every((own) => admits(own, counter, kept, cost, tMs));
      return kind === "exempt" || (kind === "limits" && admits(limit, counter, kept, cost, tMs));
    };
    if (fitsAt(atMs)) return 0;
    const windows = kind === undefined ? [limit] : [limit, ...counter.limits];
    const retentionEnds = kept.map((event) => event.atMs + event.retainMs - this.marginMs);
    return waitUntil(fitsAt, [endsAtMs, ...leaveTimesOf(kept, windows), ...retentionEnds], atMs);
  }

  /** How long `cost` has to wait for all of the counter's own limits, as if there were no override. */
  ownWaitMs(object: string, policy: string, counter: Counter, cost: number, atMs: number): number {
    const kept = this.#keptEvents(object, policy, counter, atMs);
    const fitsAt = (tMs: number) => counter.limits.every((limit) => admits(limit, counter, kept, cost, tMs));
    return fitsAt(atMs) ? 0 : waitUntil(fitsAt, leaveTimesOf(kept, counter.limits), atMs);
  }

  /** The events of the question's id that a key knows, newest first. */
  held(object: string, key: string, question: EventQuestion, atMs: number, marginMs: number): ModelEvent[] {
    return (this.events.get(locationOf(object, key)) ?? [])
      .filter((event) => event.name === eventNameOf(question) && atMs - event.atMs < event.windowMs + marginMs)
      .reverse();
  }

  /** The events of the question's id in all of its keys, as long as the id is known. */
  eventsOf(object: string, question: EventQuestion, tMs: number): ModelEvent[] {
    const keys = [...new Set(question.counters.map(({ key }) => key))];
    return keys
      .flatMap((key) => this.events.get(locationOf(object, key)) ?? [])
      .filter(({ name, atMs, windowMs }) => name === eventNameOf(question) && tMs - atMs < windowMs);
  }

  add(event: ModelEvent): void {
    const events = [...(this.events.get(event.location) ?? []), event];
    this.events.set(
      event.location,
      events.sort((a, b) => a.atMs - b.atMs),
    );
  }

  remove(event: ModelEvent): void {
    const others = (this.events.get(event.location) ?? []).filter((other) => other !== event);
    this.events.set(event.location, others);
  }

  forget(location: string): void {
    const names = this.#forgotten.get(location) ?? new Set();
    for (const { name } of this.events.get(location) ?? []) names.add(name);
    this.#forgotten.set(location, names);
    this.events.delete(location);
  }

  /** Whether the event was recorded there and removed only when an admin had the key forgotten. */
  has(location: string, name: string): boolean {
    return (
      this.#forgotten.get(location)?.has(name) === true ||
      this.events.get(location)?.some((event) => event.name === name) === true
    );
  }

  /** Whether the counter holds fewer events than it can. */
  #hasRoom(object: string, policy: string, counter: Counter, tMs: number): boolean {
    return this.#keptEvents(object, policy, counter, tMs, this.marginMs).length < this.mostEvents;
  }

  /**
   * The events of a counter from the oldest within its own retention on, and those that an override spares. With a margin:
   * as if each retention were shorter by it.
   */
  #keptEvents(object: string, policy: string, { layer, key }: Counter, tMs: number, marginMs = 0): ModelEvent[] {
    const events = (this.events.get(locationOf(object, key)) ?? []).filter(
      (event) => event.policy === policy && event.counters.some((counter) => counter.layer === layer),
    );
    const isWithin = ({ atMs, retainMs }: ModelEvent) => atMs + retainMs - marginMs > tMs;
    const oldestMs = Math.min(...events.filter(isWithin).map(({ atMs }) => atMs));
    const override = this.overrides.get(locationOf(object, key));
    const isInForce = override !== undefined && tMs < override.endsAtMs;
    const overriding = isInForce ? layerLimitsOf(override, policy, layer) : undefined;
    const sparedFromMs = overriding?.keptFromMs ?? Number.POSITIVE_INFINITY;
    const longestMs = Math.max(0, ...(overriding?.limits ?? []).map(({ windowMs }) => windowMs));
    return events.filter(({ atMs }) => atMs >= oldestMs || (atMs >= sparedFromMs && atMs > tMs - longestMs));
  }
}

/** Names a key in an object. */
export function locationOf(object: string, key: string): string {
  return `${object} ${key}`;
}

function layerLimitsOf({ layers }: KeyOverride, policy: string, layer: string) {
  return layers?.find((overriding) => overriding.policy === policy && overriding.layer === layer);
}

function leaveTimesOf(events: readonly ModelEvent[], limits: readonly Limit[]): number[] {
  return events.flatMap(({ atMs }) => limits.map(({ windowMs }) => atMs + windowMs));
}

/** The time from `nowMs` to the first of the later instants at which the cost fits. */
function waitUntil(fitsAt: (tMs: number) => boolean, instantsMs: readonly number[], nowMs: number): number {
  const later = instantsMs.filter((ms) => ms > nowMs).sort((a, b) => a - b);
  return (later.find(fitsAt) ?? Number.POSITIVE_INFINITY) - nowMs;
}

function admits(limit: Limit, counter: Counter, events: readonly ModelEvent[], cost: number, tMs: number): boolean {
  if (cost === 0) return true;
  return weightOf(limit, counter, events, tMs) + (limit.kind === "concurrent" ? 1 : cost) <= limit.max;
}

/**
 * The weight of events in a limit's window: their costs in the counter's layer; for a concurrent limit 1 for each that is not
 * released, and was not admitted at 0 there.
 */
function weightOf({ kind, windowMs }: Limit, { layer }: Counter, events: readonly ModelEvent[], tMs: number): number {
  const inWindow = events.filter(({ atMs }) => atMs > tMs - windowMs && atMs <= tMs);
  if (kind !== "concurrent") return inWindow.reduce((sum, { costs }) => sum + (costs.get(layer) ?? Number.NaN), 0);
  return inWindow.filter(({ isReleased, admittedCost }) => !isReleased && costFor(admittedCost, layer) > 0).length;
}
