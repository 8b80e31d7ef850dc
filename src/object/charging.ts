import { costAmong } from "../core/cost";
import { admits } from "../core/decide";
import { earlierMakersOf, type HeldId, recognise } from "../core/recognition";
import type { Account } from "./account";
import { isOfOneCall, makersOf, withClaim, withoutClaim } from "./claims";
import { type Clock, type Holding, holdingOf, isReplay, mayBelongToAttemptInFlight } from "./holding";
import { cacheableVerdictOf, countersOf, type OpenAccount, openAccountOf, retainMsOf, verdictOf } from "./open-account";
import type { Located } from "./pages";
import type { Charge, ChargeVerdict, ObjectVerdict } from "./protocol";

/** One attempt to charge. */
interface ChargeAttempt {
  readonly charge: Charge;
  /** All keys of the charge, in the order of its counters. */
  readonly holdings: readonly Holding[];
  /** The keys that this attempt has not charged yet. */
  readonly uncharged: readonly Holding[];
  readonly clock: Clock;
}

/**
 * Records a charge in all of its counters or in none, in one turn. If a key holds something of the id, the id must be
 * recognised first (`core/recognition.ts`): by this object if it is the only part, otherwise by the fan-out.
 */
export function consume(charge: Charge, opened: readonly OpenAccount[], clock: Clock): ChargeVerdict {
  const holdings = opened.map((account) => holdingOf(charge, account, clock));
  const uncharged = holdings.filter(({ isCharged }) => !isCharged);
  const attempt = { charge, holdings, uncharged, clock };
  if (charge.recognition === undefined) return consumeUnrecognised(attempt);
  if (charge.recognition === "known") return chargeKeysWithoutId(attempt);
  return chargeNow(attempt, uncharged);
}

/** Rolls back a charge: lifts the attempt's claims. An event stays until its last claim: other attempts may rely on it. */
export function rollBack(charge: Charge, opened: readonly OpenAccount[]): void {
  const { id, identity, policy, attempt } = charge;
  for (const { account, counters } of opened)
    for (const located of account.findAll({ id, identity, policy, counters })) liftClaim(account, located, attempt);
}

function consumeUnrecognised(attempt: ChargeAttempt): ChargeVerdict {
  const { charge, holdings, uncharged } = attempt;
  if (!uncharged.some(({ held }) => held))
    return { ...chargeNow(attempt, uncharged), replayed: isChargedByOtherCall(holdings[0], charge) };
  // A Worker older than `attemptMs` makes no second round.
  if (charge.isOnlyPart || charge.attemptMs === undefined) return recogniseAndCharge(attempt);
  const heldIds = heldByCounter(attempt).map((held) => held ?? null);
  if (uncharged.some(({ held }) => held?.isInWindow)) return { ...replay(attempt), held: heldIds };
  // By this object's clock the id has left its window. If the first layer still knows it, the fan-out rolls this back.
  return { ...chargeNow(attempt, uncharged), held: heldIds };
}

/** Whether this call was sent before, and its attempt relies on an event that another call recorded. */
function isChargedByOtherCall(first: Holding | undefined, { attempt }: Charge): boolean {
  if (!first?.isCharged || !first.located) return false;
  const [maker = attempt] = makersOf(first.located.event.claims);
  return !isOfOneCall(maker, attempt);
}

/** No other part exists, so this object recognises the id by itself. */
function recogniseAndCharge(attempt: ChargeAttempt): ChargeVerdict {
  const { charge, uncharged } = attempt;
  const heldIds = heldByCounter(attempt);
  const recognition = recognise(layerNames(charge.counters), heldIds);
  if (recognition === "known") return replay(attempt);
  if (recognition === "conflict")
    return { ...standingsOf(attempt), allowed: false, replayed: true, conflicts: true, charged: false };
  const recognised = { ...charge, recognition, earlierMakers: earlierMakersOf(recognition, heldIds[0]) };
  return chargeNow({ ...attempt, charge: recognised }, uncharged);
}

/** Charges nothing: the id is known. */
function replay(attempt: ChargeAttempt): ChargeVerdict {
  claimHeldEvents(attempt);
  return { ...standingsOf(attempt), allowed: true, replayed: true, conflicts: false, charged: false };
}

/** Other objects know the id. Charges only the keys that hold nothing of it. */
function chargeKeysWithoutId(attempt: ChargeAttempt): ChargeVerdict {
  const withoutId = attempt.uncharged.filter(({ held }) => !held);
  const verdict = chargeNow(attempt, withoutId);
  if (verdict.allowed) claimHeldEvents(attempt);
  return { ...verdict, replayed: true };
}

/**
 * Charges these keys as of now, all of them or none. A key keeps older events of the id and records a new event. If its
 * newest event may belong to another attempt in flight, that event is moved to now instead.
 */
function chargeNow(attempt: ChargeAttempt, toCharge: readonly Holding[]): ChargeVerdict {
  const { charge, holdings, clock } = attempt;
  const moving = eventsToMove(attempt, toCharge);
  // The other events belong to earlier decisions. This attempt must not keep them alive.
  for (const holding of toCharge) {
    const { account, located } = holding;
    if (located && !moving.has(holding)) liftClaim(account, located, charge.attempt);
  }

  const allowed = admitsWithout(moving, attempt, toCharge);
  if (allowed) for (const holding of toCharge) recordCharge(charge, holding, moving.get(holding), clock);
  // A denied attempt leaves nothing in the object that denied it.
  else if (holdings.some(({ located }) => located)) rollBack(charge, holdings);

  const [first] = holdings;
  const replayed = isReplay(charge, first, first !== undefined && moving.has(first));
  // An admission is never cached.
  const standings = allowed ? standingsOf(attempt) : cacheableVerdictOf(charge, holdings, clock.atMs);
  return { ...standings, allowed, replayed, conflicts: false, charged: allowed };
}

const NO_EVENTS: ReadonlyMap<Holding, Located> = new Map();

function eventsToMove({ charge, clock }: ChargeAttempt, toCharge: readonly Holding[]): ReadonlyMap<Holding, Located> {
  if (!toCharge.some(({ located }) => located)) return NO_EVENTS;
  const moving = new Map<Holding, Located>();
  for (const holding of toCharge)
    if (holding.located && mayBelongToAttemptInFlight(holding, charge, clock.atMs))
      moving.set(holding, holding.located);
  return moving;
}

/** Whether these keys admit the cost without the events that are to be moved. */
function admitsWithout(
  moving: ReadonlyMap<Holding, Located>,
  { charge, holdings, clock }: ChargeAttempt,
  toCharge: readonly Holding[],
): boolean {
  const isAll = toCharge.length === holdings.length;
  const question = isAll ? charge : { ...charge, counters: toCharge.flatMap(({ counters }) => counters) };
  for (const [{ account }, { event }] of moving) account.removeFromLogs(event);
  const allowed = admits(countersOf(question, toCharge, clock.atMs), clock.atMs);
  for (const [{ account }, { event }] of moving) account.recordInLogs(event);
  return allowed;
}

/** How all counters stand. */
function standingsOf({ charge, holdings, clock }: ChargeAttempt): ObjectVerdict {
  return verdictOf(charge, holdings, clock.atMs);
}

/** Records a new event, or moves the event of another attempt to now. */
function recordCharge(charge: Charge, holding: Holding, moving: Located | undefined, { atMs, marginMs }: Clock): void {
  const { policy, cost, attempt, windowMs, id, identity } = charge;
  const { account, counters } = holding;
  const claims = withClaim(moving?.event.claims ?? [], attempt, true);
  // A charge takes its full cost and a place, even if the moved event was settled or released.
  if (moving) {
    const { event } = moving;
    account.change(moving, undefined);
    account.append({
      ...event,
      atMs,
      cost: costAmong(event.admittedCost, event.charged.layers),
      claims,
      released: false,
    });
    return;
  }
  const retainMs = retainMsOf(charge, holding, atMs, marginMs);
  const layers = layerNames(counters);
  const charged = { policy, layers, retainMs, windowMs };
  account.append({
    id,
    identity,
    atMs,
    cost: costAmong(cost, layers),
    admittedCost: cost,
    charged,
    claims,
    released: false,
  });
}

/** Claims the events held of the id, so that they stay even if the attempts that recorded them roll back. */
function claimHeldEvents({ charge, uncharged }: ChargeAttempt): void {
  const layers = layerNames(charge.counters);
  for (const { account, located, held } of uncharged) {
    if (!located) continue;
    // An event that no other object shares is never rolled back, and needs no claim.
    if (charge.isOnlyPart && held?.layers.every((layer) => layers.includes(layer))) continue;
    const { event } = located;
    const claims = withClaim(event.claims, charge.attempt, false);
    if (claims !== event.claims) account.change(located, { ...event, claims });
  }
}

function liftClaim(account: Account, located: Located, attempt: string): void {
  const { event } = located;
  if (!event.claims.some((claim) => claim.attempt === attempt && claim.relies)) return;
  const claims = withoutClaim(event.claims, attempt);
  account.change(located, claims && { ...event, claims });
}

function heldByCounter({ charge, holdings }: ChargeAttempt): (HeldId | undefined)[] {
  return charge.counters.map(({ key }) => openAccountOf(key, holdings).held);
}

function layerNames(counters: readonly { readonly layer: string }[]): string[] {
  return counters.map(({ layer }) => layer);
}
