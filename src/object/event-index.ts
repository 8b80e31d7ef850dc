import { isInShadow } from "../core/identity";
import { IdIndex } from "./id-index";
import type { PagedEvent } from "./page";

/** The events of one page. */
interface PageEvents {
  readonly slot: number;
  readonly events: readonly PagedEvent[];
}

/**
 * On which sealed pages of a key an event may be. Each index is made when it is first asked, from all of these pages: an
 * account of one page never needs any.
 */
export class EventIndex {
  /** By id and identity. */
  #byName: IdIndex | undefined;
  /** By id alone: for an event in whose decision other layers took part than in the one that asks. */
  #byId: IdIndex | undefined;
  /** By policy, which layers took part in the decisions whose events are here. */
  readonly #shapes = new Map<string, Set<string>>();
  /** Whether there are events of live layers (false), and of layers in shadow (true). */
  readonly #modes = new Set<boolean>();

  /** `sealed`: all sealed pages, in the order of their times. */
  constructor(private readonly sealed: () => Iterable<PageEvents>) {}

  /** About how many bytes of memory it takes. */
  get weightBytes(): number {
    return (this.#byName?.weightBytes ?? 0) + (this.#byId?.weightBytes ?? 0) + 200 * this.#shapes.size;
  }

  /** Whether there is anything to take an event out of. */
  get isMade(): boolean {
    return this.#byName !== undefined || this.#byId !== undefined;
  }

  /** An event is on some page, sealed or not. */
  note({ identity, charged }: PagedEvent): void {
    const shapes = this.#shapes.get(charged.policy) ?? new Set();
    shapes.add(shapeOf(identity));
    this.#shapes.set(charged.policy, shapes);
    this.#modes.add(isInShadow(identity));
  }

  /** False only if no event is of this mode. */
  mayHaveMode(isShadow: boolean): boolean {
    return this.#modes.has(isShadow);
  }

  /** A page was sealed: the newest. */
  add({ slot, events }: PageEvents): void {
    for (const event of events) {
      this.#byName?.add(nameOf(event), slot);
      this.#byId?.add(event.id, slot);
    }
  }

  /** These events are on their sealed page no more, and `left` are. */
  remove({ slot, events }: PageEvents, left: readonly PagedEvent[] = []): void {
    if (!this.isMade) return;
    for (const event of events) {
      if (!left.some((other) => other.id === event.id)) this.#byId?.remove(event.id, slot);
      if (!left.some((other) => nameOf(other) === nameOf(event))) this.#byName?.remove(nameOf(event), slot);
    }
  }

  /** The pages that may hold an event of this very identity, the newest first. */
  slotsNamed(id: string, identity: string): readonly number[] {
    this.#byName ??= this.#indexed(nameOf);
    return this.#byName.slotsOf(nameOf({ id, identity }));
  }

  /** The same, also where other layers took part in the decision. */
  slotsOf(id: string, identity: string, policy: string): readonly number[] {
    const shapes = this.#shapes.get(policy);
    if (!shapes || (shapes.size === 1 && shapes.has(shapeOf(identity)))) return this.slotsNamed(id, identity);
    this.#byId ??= this.#indexed(({ id }) => id);
    return this.#byId.slotsOf(id);
  }

  #indexed(nameOf: (event: PagedEvent) => string): IdIndex {
    const index = new IdIndex();
    for (const { slot, events } of this.sealed()) for (const event of events) index.add(nameOf(event), slot);
    return index;
  }
}

export function nameOf({ id, identity }: Pick<PagedEvent, "id" | "identity">): string {
  return `${id} ${identity}`;
}

/** Which layers took part, whatever they counted by and in whichever mode. */
function shapeOf(identity: string): string {
  return identity.includes("=") ? identity.replaceAll(/=[^,]*/g, "") : "";
}
