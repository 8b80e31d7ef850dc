import { type Cost, type CostByLayer, costIn, largestCost } from "../core/cost";
import { isSameSubject } from "../core/identity";
import type { LoggedEvent } from "../core/sliding-window";
import { type Claim, claimText } from "./claims";

/** The counters of a key that an event was charged to, and for how long. */
export interface Charged {
  readonly policy: string;
  readonly layers: readonly string[];
  /** How long the event is kept at least. */
  readonly retainMs: number;
  /** How long its id is known. */
  readonly windowMs: number;
}

/** An event, as far as counters and the index of ids need it. */
export interface CountedEvent {
  readonly atMs: number;
  /** The cost that counts now, in the layers that the event is charged to. */
  readonly cost: Cost;
  /** The cost at admission, in all layers of the decision. A settle changes `cost` only. */
  readonly admittedCost: Cost;
  readonly released: boolean;
  readonly id: string;
  readonly identity: string;
  readonly charged: Charged;
}

export interface PagedEvent extends CountedEvent {
  readonly claims: readonly Claim[];
}

/** The event as the counter of a layer sees it. A layer that admitted it at 0 did not decide: it takes no place there. */
export function loggedIn({ atMs, cost, admittedCost, released, charged }: CountedEvent, layer: string): LoggedEvent {
  return {
    atMs,
    cost: costIn(cost, layer),
    released: released || costIn(admittedCost, layer) === 0,
    retainMs: charged.retainMs,
  };
}

/** The event is of this policy and of the identity's subject. */
export function isEventOf(event: PagedEvent, policy: string, identity: string): boolean {
  return event.charged.policy === policy && isSameSubject(event.identity, identity);
}

/** An id may be charged twice in one millisecond. The attempt that recorded an event tells the two apart. */
export function isSameEvent(a: PagedEvent, b: PagedEvent): boolean {
  const isSameId = a.atMs === b.atMs && a.id === b.id && a.identity === b.identity;
  return isSameId && a.claims[0]?.attempt === b.claims[0]?.attempt;
}

/** An event as a page has it. docs/storage.md is its contract. */
export type EventText = [
  afterMs: number,
  charged: number,
  /** The largest of its layers, if it is by layer: earlier code reads no more, and must not count too little. */
  cost: number,
  id: string,
  /** Empty if it is that of the event before. Never empty with `v` 1. */
  identity: string,
  claims: readonly string[],
  admittedCost?: number,
  released?: 0 | 1,
  /** The cost in each layer that the event is charged to. 0 if it is the same in all. */
  costs?: readonly number[] | 0,
  admittedCosts?: CostByLayer,
];

/** An event's text. `afterMs` and `chargedIndex` are its place on its page. */
export function textOfEvent(event: PagedEvent, afterMs: number, chargedIndex: number, shownIdentity: string): string {
  const { cost, id, claims, charged } = event;
  // Ids, identities and claims are made of characters that JSON does not escape.
  let quotedClaims = "";
  for (const claim of claims) quotedClaims += `${quotedClaims && ","}"${claimText(claim)}"`;
  const counted = `${afterMs},${chargedIndex},${largestCost(cost, charged.layers)}`;
  return `[${counted},"${id}","${shownIdentity}",[${quotedClaims}]${textOfRest(event)}]`;
}

/** What an event's text says, but for its claims. */
export function eventIn(
  text: EventText,
  pageAtMs: number,
  identity: string,
  chargedIn: readonly Charged[],
): CountedEvent {
  const [afterMs, index, largest, id, , , admitted = largest, released, costs, admittedCosts = admitted] = text;
  const charged = chargedIn[index] as Charged;
  const cost = costs ? Object.fromEntries(charged.layers.map((layer, i) => [layer, costs[i] as number])) : largest;
  return {
    id,
    identity,
    atMs: pageAtMs + afterMs,
    cost,
    admittedCost: admittedCosts,
    released: released === 1,
    charged,
  };
}

/** What follows the claims of an event: as little as says it. */
function textOfRest({ cost, admittedCost, released, charged }: PagedEvent): string {
  if (typeof cost === "number" && typeof admittedCost === "number") {
    if (released) return `,${admittedCost},1`;
    return admittedCost === cost ? "" : `,${admittedCost}`;
  }
  const costs = typeof cost === "number" ? "0" : `[${charged.layers.map((layer) => costIn(cost, layer))}]`;
  const admittedCosts = typeof admittedCost === "number" ? "" : `,${JSON.stringify(admittedCost)}`;
  return `,${largestCost(admittedCost, charged.layers)},${released ? 1 : 0},${costs}${admittedCosts}`;
}
