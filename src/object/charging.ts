import { check } from "../core/decide";
import { isInShadow, layersInIdentity } from "../core/identity";
import { earlierMakers, type HeldId, recognise } from "../core/recognition";
import { isOfOneCall, makersOf, withClaim, withoutClaim } from "./claims";
import { countersOf, type OpenAccount, openAccountOf, retainMsOf, verdictOf } from "./open-account";
import type { PagedEvent } from "./page";
import type { Located } from "./pages";
import type { Charge, ChargeVerdict } from "./protocol";

/** The margin by which an id is remembered for longer than it is known: objects' clocks may differ by so much. */
interface Clock {
  readonly atMs: number;
  readonly marginMs: number;
}

/** A key of a charge, and what it holds of the charge's id. */
interface OpenHolding extends OpenAccount {
  readonly located: Located | undefined;
  /** This very attempt has charged it: the answer was lost. */
  readonly isCharged: boolean;
  readonly heldId: HeldId | undefined;
  /** The attempts that dated an older event of the id. */
  readonly earlierMakers: readonly string[];
}

/**
 * Records a charge in all of its counters, or in none, in one turn. Of an id that its keys hold something of, somebody must
 * judge first what it is (`core/recognition.ts`): this object if it is asked alone, and otherwise whoever asks.
 */
export function consume(charge: Charge, opened: readonly OpenAccount[], clock: Clock): ChargeVerdict {
  const { attempt, isOnlyPart, recognition, attemptMs } = charge;
  const holdings = opened.map((one) => holdingOf(charge, one, clock));
  const uncharged = holdings.filter(({ isCharged }) => !isCharged);
  if (recognition === "known") return chargeUnknown(charge, holdings, uncharged, clock);
  if (recognition !== undefined) return chargeNow(charge, holdings, uncharged, clock);

  const [first] = holdings;
  const isReplay = first?.isCharged === true && !isOfOneCall(makersIn(first)[0] ?? attempt, attempt);
  if (!uncharged.some(({ heldId }) => heldId))
    return { ...chargeNow(charge, holdings, uncharged, clock), replayed: isReplay };
  // An edge of before knows of no second round, and says nothing of young events.
  if (isOnlyPart || attemptMs === undefined) return recogniseAlone(charge, holdings, uncharged, clock);
  const remembered = charge.counters.map(({ key }) => openAccountOf(key, holdings).heldId ?? null);
  if (uncharged.some(({ heldId }) => heldId?.isInWindow)) {
    claimHeld(charge, uncharged);
    return {
      ...standingVerdict(charge, opened, clock),
      allowed: true,
      replayed: true,
      conflicts: false,
      held: remembered,
    };
  }
  // By this object's clock the id is forgotten. Should the first layer know it, this charge is rolled back.
  return { ...chargeNow(charge, holdings, uncharged, clock), held: remembered };
}

/** Rolls back a charge: its claims are lifted, and its events go with their last claim. Others may rely on them. */
export function rollBack(charge: Charge, opened: readonly OpenAccount[]): void {
  const { id, identity, policy, attempt } = charge;
  for (const { account, counters } of opened)
    for (const located of account.findAll({ id, identity, policy, counters })) liftClaim(account, located, attempt);
}

/** No other object is asked: what the id is to the decision is judged here. */
function recogniseAlone(
  charge: Charge,
  holdings: readonly OpenHolding[],
  uncharged: readonly OpenHolding[],
  clock: Clock,
): ChargeVerdict {
  const { counters } = charge;
  const remembered = counters.map(({ key }) => openAccountOf(key, holdings).heldId);
  const recognition = recognise(layerNames(counters), remembered);
  if (recognition === "new" || recognition === "torn") {
    const earlier = earlierMakers(recognition, remembered[0]);
    return chargeNow({ ...charge, recognition: recognition, earlierMakers: earlier }, holdings, uncharged, clock);
  }
  const conflicts = recognition === "conflict";
  if (!conflicts) claimHeld(charge, uncharged);
  return { ...standingVerdict(charge, holdings, clock), allowed: !conflicts, replayed: true, conflicts };
}

/** The id is known by the word of others: only keys that hold nothing of it are charged. */
function chargeUnknown(
  charge: Charge,
  holdings: readonly OpenHolding[],
  uncharged: readonly OpenHolding[],
  clock: Clock,
): ChargeVerdict {
  const unknown = uncharged.filter(({ heldId }) => !heldId);
  const answer = chargeNow(charge, holdings, unknown, clock);
  if (answer.allowed) claimHeld(charge, uncharged);
  return { ...answer, replayed: true };
}

/**
 * Charges these keys as of now, all of them or none. An event is added, beside the older ones of the id. A young one is moved
 * to now instead, since another attempt may be made at this moment and rely on it.
 */
function chargeNow(
  charge: Charge,
  all: readonly OpenHolding[],
  keys: readonly OpenHolding[],
  clock: Clock,
): ChargeVerdict {
  const { cost, attempt } = charge;
  const { atMs } = clock;
  const moved = new Map<OpenHolding, Located>();
  for (const holding of keys) {
    const { account, located } = holding;
    if (!located) continue;
    if (mayBeOfLiveAttempt(holding, charge, atMs)) moved.set(holding, located);
    // What stays beside is not this attempt's, whatever becomes of it; what nobody else relies on is gone.
    else liftClaim(account, located, attempt);
  }
  const isAll = keys.length === all.length;
  const asked = isAll ? charge : { ...charge, counters: keys.flatMap(({ counters }) => counters) };
  for (const [{ account }, { event }] of moved) account.withdraw(event);
  const verdict = check(countersOf(asked, keys, atMs), cost, atMs);
  for (const [{ account }, { event }] of moved) account.putBack(event);

  const [first] = all;
  const replayed = isReplayOf(charge, first, first !== undefined && moved.has(first));
  if (verdict.allowed) for (const holding of keys) chargeAccount(charge, holding, moved.get(holding), clock);
  // Who denies an attempt holds nothing of it.
  else if (all.some(({ located }) => located)) rollBack(charge, all);
  const { allowed } = verdict;
  // A flood is denied, and nothing is held of its ids: how all counters stand is known then.
  const isUntouched = !allowed && isAll && !keys.some(({ located }) => located);
  const asAsked = allowed ? { ...charge, believeMs: undefined } : charge;
  const standing = verdictOf(asAsked, all, atMs, isUntouched ? verdict : undefined);
  return { ...standing, allowed, replayed, conflicts: false, charged: allowed };
}

/** Records the event of a key, or moves the young one that is there. */
function chargeAccount(
  charge: Charge,
  holding: OpenHolding,
  moved: Located | undefined,
  { atMs, marginMs }: Clock,
): void {
  const { policy, cost, attempt, windowMs, id, identity } = charge;
  const { account, counters } = holding;
  const claims = withClaim(moved?.event.claims ?? [], attempt, true);
  // What is charged as of now has this cost and takes a place, whatever was settled or released before.
  const now = { atMs, cost, claims, released: false };
  if (moved) {
    account.change(moved, undefined);
    account.append({ ...moved.event, ...now });
    return;
  }
  const retainMs = retainMsOf(charge, holding, atMs, marginMs);
  const event: PagedEvent = {
    id,
    identity,
    admittedCost: cost,
    charged: { policy, layers: layerNames(counters), retainMs, windowMs: windowMs },
    ...now,
  };
  account.append(event);
}

/**
 * Whether the first layer knew the id: for a torn one it did, unless by attempts of this very call. Of attempts at the same
 * moment, those come first that dated its event before, if they rely on it still.
 */
function isReplayOf({ recognition, attempt }: Charge, first: OpenHolding | undefined, isMoved: boolean): boolean {
  if (!first?.located) return recognition === "torn" && first?.heldId !== undefined;
  const { claims } = first.located.event;
  const isOther = (maker: string) => !isOfOneCall(maker, attempt);
  if (isMoved || first.isCharged) {
    const others = claims.filter((claim) => claim.isMaker && isOther(claim.attempt));
    if (others.length > 0) return others.some(({ relies }) => relies);
    return recognition === "torn" && first.earlierMakers.some(isOther);
  }
  return recognition === "torn" && makersOf(claims).some(isOther);
}

/** How all counters stand, where nothing was charged. */
function standingVerdict(charge: Charge, opened: readonly OpenAccount[], { atMs }: Clock) {
  return { ...verdictOf({ ...charge, cacheMs: undefined }, opened, atMs), charged: false };
}

/** Lays the attempt's claim on what is held of the id: whoever made that may roll it back. */
function claimHeld({ isOnlyPart, attempt, counters: asked }: Charge, holdings: readonly OpenHolding[]): void {
  const layers = layerNames(asked);
  for (const { account, located, heldId } of holdings) {
    if (!located) continue;
    // It was charged elsewhere too, if a layer took part that is not asked any more.
    if (isOnlyPart && heldId?.layers.every((layer) => layers.includes(layer))) continue;
    const { event } = located;
    const claims = withClaim(event.claims, attempt, false);
    if (claims !== event.claims) account.change(located, { ...event, claims });
  }
}

function liftClaim(account: OpenAccount["account"], located: Located, attempt: string): void {
  const { event } = located;
  if (!event.claims.some((claim) => claim.attempt === attempt && claim.relies)) return;
  const claims = withoutClaim(event.claims, attempt);
  account.change(located, claims && { ...event, claims });
}

/** An event of another policy, which its subject is known by there. */
const CONFLICT: HeldId = {
  isInWindow: true,
  makers: [],
  earlierMakers: [],
  layers: [],
  isOtherMode: false,
  conflicts: true,
};

function holdingOf(charge: Charge, opened: OpenAccount, { atMs, marginMs }: Clock): OpenHolding {
  const { id, identity, policy, cost, attempt, aliases = [] } = charge;
  const { account, counters } = opened;
  const [located, ...older] = account
    .findNewest({ id, identity, policy, counters }, 2)
    .filter(({ event }) => atMs - event.atMs < event.charged.windowMs + marginMs);
  if (located) {
    const { event } = located;
    const earlier = older.flatMap((one) => makersOf(one.event.claims));
    const isCharged = event.claims.some((claim) => claim.attempt === attempt && claim.isMaker && claim.relies);
    const remembered: HeldId = {
      isInWindow: isInWindow(located, atMs),
      makers: makersOf(event.claims),
      earlierMakers: earlier,
      layers: layersInIdentity(event.identity),
      isOtherMode: isInShadow(event.identity) !== isInShadow(identity),
      conflicts: event.charged.policy !== policy || event.admittedCost !== cost,
    };
    return {
      account,
      counters,
      located,
      isCharged,
      heldId: isCharged ? undefined : remembered,
      earlierMakers: earlier,
    };
  }
  const isAlias = aliases.some((alias) => {
    const other = account.findExactly(id, alias);
    return other !== undefined && other.event.charged.policy !== policy && isInWindow(other, atMs);
  });
  const remembered = isAlias ? CONFLICT : undefined;
  return { account, counters, located: undefined, isCharged: false, heldId: remembered, earlierMakers: [] };
}

/** It may be of an attempt that is being made just now, and is of no decision before this one. */
function mayBeOfLiveAttempt({ located, heldId }: OpenHolding, charge: Charge, atMs: number): boolean {
  const { attemptMs = 0, earlierMakers = [] } = charge;
  if (!located || !heldId?.isInWindow || heldId.conflicts || heldId.isOtherMode) return false;
  return atMs - located.event.atMs <= attemptMs && !heldId.makers.some((maker) => earlierMakers.includes(maker));
}

/** By the clock of this object, an event's id is known. */
export function isInWindow({ event }: Located, atMs: number): boolean {
  return atMs - event.atMs < event.charged.windowMs;
}

function layerNames(counters: readonly { readonly layer: string }[]): string[] {
  return counters.map(({ layer }) => layer);
}

function makersIn({ located }: OpenHolding): string[] {
  return located ? makersOf(located.event.claims) : [];
}
