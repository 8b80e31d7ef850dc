import type { Limit } from "../../src/core/limit";
import type { KeyOverride, OverrideKind } from "../../src/core/override";
import type { Counter, EventQuestion, Question } from "../../src/object/protocol";
import { nameOf } from "./record";

export interface Event {
  readonly name: string;
  readonly id: string;
  /** Of the subject, with the mode. */
  readonly identity: string;
  /** The object and the key. */
  readonly place: string;
  readonly atMs: number;
  /** How long its id is known. */
  readonly windowMs: number;
  /** How long it is kept by itself; it is kept for as long as an earlier one is, too. */
  readonly retainMs: number;
  /** Which deed recorded it. */
  readonly deed: number;
  readonly counters: readonly Counter[];
  readonly policy: string;
  readonly admittedCost: number;
  cost: number;
  /** It takes no place any more among what is concurrent. */
  isOver: boolean;
  /** The attempts that rely on it, and those that dated it. */
  readonly claims: Set<string>;
  readonly makers: Set<string>;
}

/** What holds for a counter at an instant: its own limits, or what overrides them. */
export interface Rule {
  readonly kind: OverrideKind | undefined;
  /** Those in force. */
  readonly limits: readonly Limit[];
  readonly endsAtMs: number;
}

/** Something that is in use, until it leaves the window. */
export interface Leaving {
  readonly inMs: number;
  readonly weight: number;
}

/**
 * Of every key in every object a list of events, kept for ever and added up, and what overrides the key. It shares nothing
 * with the code that it is a model of but the words of the protocol.
 */
export class Model {
  readonly events = new Map<string, Event[]>();
  readonly overrides = new Map<string, KeyOverride>();
  /** What was forgotten because somebody wanted it to be, by place. */
  readonly #forgotten = new Map<string, Set<string>>();

  ruleOf(object: string, policy: string, { layer, key, limits }: Counter, tMs: number): Rule {
    const override = this.overrides.get(placeOf(object, key));
    const own = { kind: undefined, limits, endsAtMs: Number.NEGATIVE_INFINITY };
    if (!override || tMs >= override.endsAtMs) return own;
    const { kind, endsAtMs } = override;
    if (kind !== "limits") return { kind, limits, endsAtMs };
    const other = override.layers?.find((one) => one.policy === policy && one.layer === layer);
    return other ? { kind, limits: other.limits, endsAtMs } : own;
  }

  fits(object: string, { policy, cost, counters }: Question, tMs: number): boolean {
    return counters.every((counter) => {
      const { kind, limits } = this.ruleOf(object, policy, counter, tMs);
      if (kind === "ban" || kind === "exempt") return kind === "exempt";
      const kept = this.#kept(object, policy, counter, tMs);
      return limits.every((limit) => admits(limit, kept, cost, tMs));
    });
  }

  /** How much is in use. */
  used(object: string, policy: string, counter: Counter, limit: Limit, tMs: number): number {
    return weightOf(limit, this.#kept(object, policy, counter, tMs), tMs);
  }

  /** What a limit counts, and when each of it leaves the window. */
  leavings(object: string, policy: string, counter: Counter, limit: Limit, tMs: number): Leaving[] {
    return this.#kept(object, policy, counter, tMs)
      .filter(({ atMs }) => atMs > tMs - limit.windowMs)
      .map((event) => ({ inMs: event.atMs + limit.windowMs - tMs, weight: weightOf(limit, [event], tMs) }));
  }

  /**
   * For how long `cost` has to wait: until the limit, which is in force, admits it or, once what overrides the counter has
   * ended, until all of the counter's own do. Instant by instant at which anything may change, over what is kept now.
   */
  waitMs(object: string, policy: string, counter: Counter, limit: Limit, cost: number, atMs: number): number {
    const { kind, endsAtMs } = this.ruleOf(object, policy, counter, atMs);
    const kept = this.#kept(object, policy, counter, atMs);
    const fitsAt = (tMs: number) => {
      if (kind === undefined) return admits(limit, kept, cost, tMs);
      if (tMs >= endsAtMs) return counter.limits.every((own) => admits(own, kept, cost, tMs));
      return kind === "exempt" || (kind === "limits" && admits(limit, kept, cost, tMs));
    };
    if (fitsAt(atMs)) return 0;
    const windows = kind === undefined ? [limit] : [limit, ...counter.limits];
    const leaves = kept.flatMap((event) => windows.map(({ windowMs }) => event.atMs + windowMs));
    const instants = [endsAtMs, ...leaves].filter((ms) => ms > atMs).sort((a, b) => a - b);
    return (instants.find(fitsAt) ?? Number.POSITIVE_INFINITY) - atMs;
  }

  /** For how long the counter's own limits would have `cost` wait, all of them and without what overrides them. */
  ownWaitMs(object: string, policy: string, counter: Counter, cost: number, atMs: number): number {
    const kept = this.#kept(object, policy, counter, atMs);
    const fitsAt = (tMs: number) => counter.limits.every((limit) => admits(limit, kept, cost, tMs));
    const leaves = kept.flatMap((event) => counter.limits.map(({ windowMs }) => event.atMs + windowMs));
    const instants = [atMs, ...leaves].filter((ms) => ms >= atMs).sort((a, b) => a - b);
    return (instants.find(fitsAt) ?? Number.POSITIVE_INFINITY) - atMs;
  }

  /** What a key remembers of a question's id, the newest first. */
  held(object: string, key: string, question: EventQuestion, atMs: number, marginMs: number): Event[] {
    return (this.events.get(placeOf(object, key)) ?? [])
      .filter((event) => event.name === nameOf(question) && atMs - event.atMs < event.windowMs + marginMs)
      .reverse();
  }

  /** Those that a question names, of all its keys, and whose id is known. */
  named(object: string, question: EventQuestion, tMs: number): Event[] {
    const keys = [...new Set(question.counters.map(({ key }) => key))];
    return keys
      .flatMap((key) => this.events.get(placeOf(object, key)) ?? [])
      .filter(({ name, atMs, windowMs }) => name === nameOf(question) && tMs - atMs < windowMs);
  }

  add(event: Event): void {
    const events = [...(this.events.get(event.place) ?? []), event];
    this.events.set(
      event.place,
      events.sort((one, other) => one.atMs - other.atMs),
    );
  }

  remove(event: Event): void {
    const others = (this.events.get(event.place) ?? []).filter((other) => other !== event);
    this.events.set(event.place, others);
  }

  forget(place: string): void {
    const names = this.#forgotten.get(place) ?? new Set();
    for (const { name } of this.events.get(place) ?? []) names.add(name);
    this.#forgotten.set(place, names);
    this.events.delete(place);
  }

  /** The event was recorded there, and only taken out again when the key was forgotten. */
  has(place: string, name: string): boolean {
    return (
      this.#forgotten.get(place)?.has(name) === true ||
      this.events.get(place)?.some((event) => event.name === name) === true
    );
  }

  /** The events of a counter that are kept: from the oldest on that is kept by itself, or that an override spares. */
  #kept(object: string, policy: string, { layer, key }: Counter, tMs: number): Event[] {
    const events = (this.events.get(placeOf(object, key)) ?? []).filter(
      (event) => event.policy === policy && event.counters.some((counter) => counter.layer === layer),
    );
    const oldestMs = Math.min(...events.filter(({ atMs, retainMs }) => atMs + retainMs > tMs).map(({ atMs }) => atMs));
    const override = this.overrides.get(placeOf(object, key));
    const isInForce = override !== undefined && tMs < override.endsAtMs;
    const other = isInForce ? override.layers?.find((one) => one.policy === policy && one.layer === layer) : undefined;
    const sparedFromMs = other?.keptFromMs ?? Number.POSITIVE_INFINITY;
    const widestMs = Math.max(0, ...(other?.limits ?? []).map(({ windowMs }) => windowMs));
    return events.filter(({ atMs }) => atMs >= oldestMs || (atMs >= sparedFromMs && atMs > tMs - widestMs));
  }
}

export function placeOf(object: string, key: string): string {
  return `${object} ${key}`;
}

function admits(limit: Limit, events: readonly Event[], cost: number, tMs: number): boolean {
  return weightOf(limit, events, tMs) + (limit.kind === "concurrent" ? 1 : cost) <= limit.max;
}

/** What events count in a limit at an instant: their cost or, of those that are concurrent, one each. */
function weightOf({ kind, windowMs }: Limit, events: readonly Event[], tMs: number): number {
  const inside = events.filter(({ atMs }) => atMs > tMs - windowMs && atMs <= tMs);
  if (kind !== "concurrent") return inside.reduce((sum, { cost }) => sum + cost, 0);
  return inside.filter(({ isOver }) => !isOver).length;
}
