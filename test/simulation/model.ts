import type { Limit } from "../../src/core/limit";
import type { KeyOverride, OverrideKind } from "../../src/core/override";
import type { AskedCounter, EventQuestion, Question } from "../../src/object/protocol";
import { nameOf } from "./told";

export interface Event {
  readonly name: string;
  /** The object and the key. */
  readonly place: string;
  readonly atMs: number;
  /** For so long it is kept; what is older may be forgotten, and need not be. */
  readonly keepMs: number;
  /** For so long its id is known: the longest window of its policy, whatever overrides it. */
  readonly knownMs: number;
  /** Which deed recorded it. */
  readonly deed: number;
  readonly counters: readonly AskedCounter[];
  readonly policy: string;
  cost: number;
  /**
   * It takes no place any more among what is under way. Perhaps: it was released when no limit in force counted that, so
   * nobody need have taken note of it.
   */
  isOver: boolean | "perhaps";
  readonly claims: Set<string>;
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

/** The least or the most that may be in use: the two differ where something may have been forgotten. */
export type Bound = "least" | "most";

/**
 * Of every key in every object a list of events, kept for ever and added up, and what overrides the key. It shares nothing
 * with the code that it is a model of but the words of the protocol.
 */
export class Model {
  readonly events = new Map<string, Event[]>();
  readonly overrides = new Map<string, KeyOverride>();
  /** What was forgotten because somebody wanted it to be, by place. */
  readonly #forgotten = new Map<string, Set<string>>();

  ruleOf(object: string, policy: string, { layer, key, limits }: AskedCounter, tMs: number): Rule {
    const override = this.overrides.get(placeOf(object, key));
    const own = { kind: undefined, limits, endsAtMs: Number.NEGATIVE_INFINITY };
    if (!override || tMs >= override.endsAtMs) return own;
    const { kind, endsAtMs } = override;
    if (kind !== "limits") return { kind, limits, endsAtMs };
    const other = override.layers?.find((one) => one.policy === policy && one.layer === layer);
    return other ? { kind, limits: other.limits, endsAtMs } : own;
  }

  fits(object: string, { policy, cost, counters }: Question, tMs: number, bound: Bound): boolean {
    return counters.every((counter) => {
      const { kind, limits } = this.ruleOf(object, policy, counter, tMs);
      if (kind === "ban" || kind === "exempt") return kind === "exempt";
      return limits.every((limit) => this.#admits(object, policy, counter, limit, cost, tMs, bound));
    });
  }

  /** How much is in use, at least and at most. */
  used(
    object: string,
    policy: string,
    counter: AskedCounter,
    limit: Limit,
    tMs: number,
  ): [least: number, most: number] {
    const inUse = this.#inUse(object, policy, counter, limit, tMs);
    const kept = inUse.filter((event) => isKept(event, tMs));
    return [weightOf(limit, kept, "least"), weightOf(limit, inUse, "most")];
  }

  /** What a limit counts, and when each of it leaves the window. */
  leavings(object: string, policy: string, counter: AskedCounter, limit: Limit, tMs: number): Leaving[] {
    return this.#inUse(object, policy, counter, limit, tMs).map((event) => {
      return { inMs: event.atMs + limit.windowMs - tMs, weight: weightOf(limit, [event], "most") };
    });
  }

  /**
   * For how long `cost` has to wait: until the limit, which is in force, admits it or, once what overrides the counter has
   * ended, until all of the counter's own do. Instant by instant at which anything may change.
   */
  waitMs(object: string, policy: string, counter: AskedCounter, limit: Limit, cost: number, atMs: number): number {
    const { kind, endsAtMs } = this.ruleOf(object, policy, counter, atMs);
    const admits = (one: Limit, tMs: number) => this.#admits(object, policy, counter, one, cost, tMs, "most");
    const fitsAt = (tMs: number) => {
      if (kind === undefined) return admits(limit, tMs);
      if (tMs >= endsAtMs) return counter.limits.every((own) => admits(own, tMs));
      return kind === "exempt" || (kind === "limits" && admits(limit, tMs));
    };
    if (fitsAt(atMs)) return 0;
    const windows = kind === undefined ? [limit] : [limit, ...counter.limits];
    const leaves = (this.events.get(placeOf(object, counter.key)) ?? []).flatMap((event) =>
      windows.map(({ windowMs }) => event.atMs + windowMs),
    );
    const instants = [endsAtMs, ...leaves].filter((ms) => ms > atMs).sort((a, b) => a - b);
    return (instants.find(fitsAt) ?? Number.POSITIVE_INFINITY) - atMs;
  }

  /** For how long the counter's own limits would have `cost` wait, all of them and without what overrides them. */
  ownWaitMs(object: string, policy: string, counter: AskedCounter, cost: number, atMs: number): number {
    const own = counter.limits;
    const admits = (tMs: number) =>
      own.every((limit) => this.#admits(object, policy, counter, limit, cost, tMs, "most"));
    const leaves = (this.events.get(placeOf(object, counter.key)) ?? []).flatMap((event) =>
      own.map(({ windowMs }) => event.atMs + windowMs),
    );
    const instants = [atMs, ...leaves].filter((ms) => ms >= atMs).sort((a, b) => a - b);
    return (instants.find(admits) ?? Number.POSITIVE_INFINITY) - atMs;
  }

  find(object: string, key: string, name: string, atMs: number): Event | undefined {
    return this.events.get(placeOf(object, key))?.find((event) => event.name === name && isKnown(event, atMs));
  }

  /** Those that a question names, of all its keys, and that are remembered. */
  named(object: string, question: EventQuestion, atMs: number): Event[] {
    return [...new Set(question.counters.map(({ key }) => key))].flatMap((key) =>
      (this.events.get(placeOf(object, key)) ?? []).filter(
        (event) => event.name === nameOf(question) && isKnown(event, atMs),
      ),
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

  #admits(
    object: string,
    policy: string,
    counter: AskedCounter,
    limit: Limit,
    cost: number,
    tMs: number,
    bound: Bound,
  ): boolean {
    const [least, most] = this.used(object, policy, counter, limit, tMs);
    const one = limit.kind === "concurrent" ? 1 : cost;
    return (bound === "least" ? least : most) + one <= limit.max;
  }

  #inUse(object: string, policy: string, { layer, key }: AskedCounter, { windowMs }: Limit, tMs: number): Event[] {
    return (this.events.get(placeOf(object, key)) ?? []).filter(
      (event) =>
        event.atMs > tMs - windowMs &&
        event.atMs <= tMs &&
        event.policy === policy &&
        event.counters.some((counter) => counter.layer === layer),
    );
  }
}

export function placeOf(object: string, key: string): string {
  return `${object} ${key}`;
}

export function isKnown({ atMs, knownMs }: Event, tMs: number): boolean {
  return atMs + knownMs > tMs;
}

export function isKept({ atMs, keepMs }: Event, tMs: number): boolean {
  return atMs + keepMs > tMs;
}

/** What events count in a limit: their cost or, of those that are under way, one each. */
function weightOf({ kind }: Limit, events: readonly Event[], bound: Bound): number {
  if (kind !== "concurrent") return events.reduce((sum, { cost }) => sum + cost, 0);
  const counts = (isOver: Event["isOver"]) => isOver === false || (isOver === "perhaps" && bound === "most");
  return events.filter(({ isOver }) => counts(isOver)).length;
}
