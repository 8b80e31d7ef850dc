import { isInShadow, isSameSubject } from "../core/identity";
import { IdIndex } from "./id-index";
import type { PagedEvent } from "./page";

/** The events of one page. */
interface PageEvents {
  readonly slot: number;
  readonly events: readonly PagedEvent[];
}

/**
 * Finds the sealed pages of a key that may hold an event. Each index is built from all sealed pages when it is first needed.
 * An account with one page never needs any.
 */
export class EventIndex {
  /** By id and identity. */
  #byName: IdIndex | undefined;
  /** By id alone: finds events whose decision had other layers than the request has. */
  #byId: IdIndex | undefined;
  /** By policy: the combinations of layers that took part in the decisions of its events. */
  readonly #layerNames = new Map<string, Set<string>>();
  /** Whether events are in shadow. Holds both values if there are events of both modes. */
  readonly #areInShadow = new Set<boolean>();

  /** `sealed` gives all sealed pages in the order of their times. */
  constructor(private readonly sealed: () => Iterable<PageEvents>) {}

  /** About how many bytes of memory the index takes. */
  get weightBytes(): number {
    return (this.#byName?.weightBytes ?? 0) + (this.#byId?.weightBytes ?? 0) + 200 * this.#layerNames.size;
  }

  /** An index is built, and events must be removed from it. */
  get isBuilt(): boolean {
    return this.#byName !== undefined || this.#byId !== undefined;
  }

  /** Notes an event that is on some page, sealed or not. */
  note({ identity, charged }: PagedEvent): void {
    const names = this.#layerNames.get(charged.policy) ?? new Set();
    names.add(layerNamesIn(identity));
    this.#layerNames.set(charged.policy, names);
    this.#areInShadow.add(isInShadow(identity));
  }

  /** False only if no event has this mode. */
  mayHaveMode(isShadow: boolean): boolean {
    return this.#areInShadow.has(isShadow);
  }

  /** Adds the newest page, which was sealed just now. */
  add({ slot, events }: PageEvents): void {
    for (const event of events) {
      this.#byName?.add(nameOf(event), slot);
      this.#byId?.add(event.id, slot);
    }
  }

  /** Removes events that are not on their sealed page any more. `left` are the events that still are. */
  remove({ slot, events }: PageEvents, left: readonly PagedEvent[] = []): void {
    if (!this.isBuilt) return;
    for (const event of events) {
      if (!left.some(({ id }) => id === event.id)) this.#byId?.remove(event.id, slot);
      if (!left.some((stays) => nameOf(stays) === nameOf(event))) this.#byName?.remove(nameOf(event), slot);
    }
  }

  /** The pages that may hold an event with exactly this identity, the newest first. */
  slotsOfIdentity(id: string, identity: string): readonly number[] {
    this.#byName ??= this.#build(nameOf);
    return this.#byName.slotsOf(nameOf({ id, identity }));
  }

  /** The pages that may hold an event of this subject, even if other layers took part in its decision. The newest first. */
  slotsOfSubject(id: string, identity: string, policy: string): readonly number[] {
    const names = this.#layerNames.get(policy);
    const isOneCombination = !names || (names.size === 1 && names.has(layerNamesIn(identity)));
    if (isOneCombination) return this.slotsOfIdentity(id, identity);
    this.#byId ??= this.#build(({ id }) => id);
    return this.#byId.slotsOf(id);
  }

  #build(nameOf: (event: PagedEvent) => string): IdIndex {
    const index = new IdIndex();
    for (const { slot, events } of this.sealed()) for (const event of events) index.add(nameOf(event), slot);
    return index;
  }
}

/** The event is of this policy and of the identity's subject. */
export function isEventOf(event: PagedEvent, policy: string, identity: string): boolean {
  return event.charged.policy === policy && isSameSubject(event.identity, identity);
}

/** An id may be charged twice in one millisecond. The attempt that recorded an event tells the two apart. */
export function isSameEvent(a: PagedEvent, b: PagedEvent): boolean {
  return a.atMs === b.atMs && nameOf(a) === nameOf(b) && a.claims[0]?.attempt === b.claims[0]?.attempt;
}

function nameOf({ id, identity }: Pick<PagedEvent, "id" | "identity">): string {
  return `${id} ${identity}`;
}

/** The layers that took part, whatever keys they counted by and whatever their mode. */
function layerNamesIn(identity: string): string {
  return identity.includes("=") ? identity.replaceAll(/=[^,]*/g, "") : "";
}
