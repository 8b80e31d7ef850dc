import { type Cost, isSameCost } from "../core/cost";
import { isInShadow, layersInIdentity } from "../core/identity";
import type { HeldId } from "../core/recognition";
import { isOfOneCall, makersOf } from "./claims";
import type { PagedEvent } from "./event";
import type { OpenAccount } from "./open-account";
import type { Located } from "./pages";
import type { Charge } from "./protocol";

/** The time of a decision by the object's clock, and how far the clocks of two objects may differ. */
export interface Clock {
  readonly atMs: number;
  /** The events of an id are kept this much longer than the id is known. */
  readonly marginMs: number;
}

/** A key of a charge, with what the key holds of the charge's id. */
export interface Holding extends OpenAccount {
  /** The newest event of the id. */
  readonly located: Located | undefined;
  /** This attempt has charged the key already: its verdict was lost, and the call was sent again. */
  readonly isCharged: boolean;
  /** What recognition judges by. Undefined if the key holds nothing, or only this attempt's own charge. */
  readonly held: HeldId | undefined;
  /** The attempts that dated an older event of the id. */
  readonly earlierMakers: readonly string[];
}

export function holdingOf(charge: Charge, { account, counters }: OpenAccount, { atMs, marginMs }: Clock): Holding {
  const { id, identity, policy, attempt } = charge;
  // Most ids are new to their key.
  if (!account.mayHold(id))
    return { account, counters, located: undefined, isCharged: false, held: undefined, earlierMakers: [] };
  // What is not known any more may be dropped at any time, so it hides no other event.
  const isKept = ({ event }: Located) => atMs - event.atMs < event.charged.windowMs + marginMs;
  const [located, ...older] = account.findNewest({ id, identity, policy, counters }, 2, isKept);
  if (!located) {
    const held = isKnownToOtherPolicy(charge, account, atMs) ? CONFLICT : undefined;
    return { account, counters, located, isCharged: false, held, earlierMakers: [] };
  }
  const earlierMakers = older.flatMap(({ event }) => makersOf(event.claims));
  const isCharged = located.event.claims.some((claim) => claim.attempt === attempt && claim.isMaker && claim.relies);
  const held = isCharged ? undefined : heldIdOf(charge, located, earlierMakers, atMs);
  return { account, counters, located, isCharged, held, earlierMakers };
}

/** Whether the id of the event is known, by the clock of this object. */
export function isInWindow({ event }: Located, atMs: number): boolean {
  return atMs - event.atMs < event.charged.windowMs;
}

/** Whether another attempt of the same decision may have recorded the key's event, and may still be in flight. */
export function mayBelongToAttemptInFlight({ located, held }: Holding, charge: Charge, atMs: number): boolean {
  const { attemptMs = 0, earlierMakers = [] } = charge;
  if (!located || !held?.isInWindow || held.conflicts || held.isOtherMode) return false;
  const isYoung = atMs - located.event.atMs <= attemptMs;
  return isYoung && !held.makers.some((maker) => earlierMakers.includes(maker));
}

/**
 * Whether the first layer knew the id before this call. Two calls with one id at the same time may both date the event. Then
 * this call is a replay if the other call still relies on it.
 */
export function isReplay(charge: Charge, first: Holding | undefined, isMoved: boolean): boolean {
  const isTorn = charge.recognition === "torn";
  if (!first?.located) return isTorn && first?.held !== undefined;
  const isOfOtherCall = (maker: string) => !isOfOneCall(maker, charge.attempt);
  const { claims } = first.located.event;
  if (!isMoved && !first.isCharged) return isTorn && makersOf(claims).some(isOfOtherCall);
  const otherMakers = claims.filter(({ isMaker, attempt }) => isMaker && isOfOtherCall(attempt));
  if (otherMakers.length > 0) return otherMakers.some(({ relies }) => relies);
  return isTorn && first.earlierMakers.some(isOfOtherCall);
}

/** The same subject used the id with another policy. */
const CONFLICT: HeldId = {
  isInWindow: true,
  makers: [],
  earlierMakers: [],
  layers: [],
  isOtherMode: false,
  conflicts: true,
};

function isKnownToOtherPolicy({ id, policy, aliases = [] }: Charge, account: Holding["account"], atMs: number) {
  return aliases.some((alias) => {
    const found = account.findExactly(id, alias);
    return found !== undefined && found.event.charged.policy !== policy && isInWindow(found, atMs);
  });
}

function heldIdOf(charge: Charge, located: Located, earlierMakers: readonly string[], atMs: number): HeldId {
  const { charged, claims, identity } = located.event;
  return {
    isInWindow: isInWindow(located, atMs),
    makers: makersOf(claims),
    earlierMakers,
    layers: layersInIdentity(identity),
    isOtherMode: isInShadow(identity) !== isInShadow(charge.identity),
    conflicts: charged.policy !== charge.policy || !isAdmittedAtCostOf(charge, located.event),
  };
}

/** Whether the event was admitted at the cost of the charge, in all layers that both decisions have. */
function isAdmittedAtCostOf({ cost, identity, counters }: Charge, event: PagedEvent): boolean {
  const { admittedCost, charged } = event;
  if (cost === admittedCost) return true;
  const own = counters.map(({ layer }) => layer);
  const layers = layersOf(cost, identity, own);
  const eventLayers = layersOf(admittedCost, event.identity, charged.layers);
  if (layers.length === 0 || eventLayers.length === 0)
    return isSameCost(cost, admittedCost, [...layers, ...eventLayers]);
  const shared = layers.filter((layer) => eventLayers.includes(layer));
  return shared.length === 0 || isSameCost(cost, admittedCost, shared);
}

/** The layers of a decision that have its cost. Empty where they are unknown: inline layers at the same cost. */
function layersOf(cost: Cost, identity: string, inObject: readonly string[]): readonly string[] {
  if (typeof cost !== "number") return Object.keys(cost);
  const named = layersInIdentity(identity);
  // Layers in shadow may have the identity of the live layers, which may cost something else.
  const isOfLiveLayers = named.length > 0 && inObject.some((layer) => !named.includes(layer));
  return isOfLiveLayers ? inObject : named;
}
