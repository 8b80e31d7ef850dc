import { check, type Verdict } from "../core/decide";
import { earlierMakersOf, type HeldId, recognise } from "../core/recognition";
import type { Account } from "./account";
import { isOfOneCall, makersOf, withClaim, withoutClaim } from "./claims";
import { type Clock, type Holding, holdingOf, isReplayOf, mayBelongToAttemptInFlight } from "./holding";
import { countersOf, type OpenAccount, openAccountOf, retainMsOf, verdictOf } from "./open-account";
import type { PagedEvent } from "./page";
import type { Located } from "./pages";
import type { Charge, ChargeVerdict } from "./protocol";

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
 * recognised first (`core/recognition.ts`): by this object if it is the only part, otherwise by the caller.
 */
export function consume(charge: Charge, opened: readonly OpenAccount[], clock: Clock): ChargeVerdict {
  const holdings = opened.map((account) => holdingOf(charge, account, clock));
  const uncharged = holdings.filter(({ isCharged }) => !isCharged);
  const attempt = { charge, holdings, uncharged, clock };
  if (charge.recognition === undefined) return consumeUnrecognised(attempt);
  if (charge.recognition === "known") return chargeKeysWithoutId(attempt);
  return chargeNow(attempt, uncharged);
}

/** Rolls back a charge: lifts the attempt's claims. An event goes with its last claim, since other attempts may rely on it. */
export function rollBack(charge: Charge, opened: readonly OpenAccount[]): void {
  const { id, identity, policy, attempt } = charge;
  for (const { account, counters } of opened)
    for (const located of account.findAll({ id, identity, policy, counters })) liftClaim(account, located, attempt);
}

function consumeUnrecognised(attempt: ChargeAttempt): ChargeVerdict {
  const { charge, holdings, uncharged } = attempt;
  if (!uncharged.some(({ held }) => held))
    return { ...chargeNow(attempt, uncharged), replayed: isChargedByOtherCall(holdings[0], charge) };
  // Code without `attemptMs` makes no second round.
  if (charge.isOnlyPart || charge.attemptMs === undefined) return recogniseAndCharge(attempt);
  const heldIds = heldByCounter(attempt).map((held) => held ?? null);
  if (uncharged.some(({ held }) => held?.isInWindow)) return { ...replay(attempt), held: heldIds };
  // The id is forgotten by this object's clock. If the first layer still knows it, this charge is rolled back.
  return { ...chargeNow(attempt, uncharged), held: heldIds };
}

/** This attempt sends its call again, and relies on an event that another call recorded. */
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
 * Charges these keys as of now, all of them or none. A key records a new event beside older events of the id. If another
 * attempt in flight may rely on its event, the key moves that event to now instead.
 */
function chargeNow(attempt: ChargeAttempt, keys: readonly Holding[]): ChargeVerdict {
  const { charge, holdings, clock } = attempt;
  const moving = eventsToMove(attempt, keys);
  // The other events belong to earlier decisions. This attempt must not keep them alive.
  for (const { account, located } of keys.filter((key) => !moving.has(key)))
    if (located) liftClaim(account, located, charge.attempt);

  const verdict = checkWithout(moving, attempt, keys);
  if (verdict.allowed) for (const key of keys) recordCharge(charge, key, moving.get(key), clock);
  // A denied attempt leaves nothing in the object that denied it.
  else if (holdings.some(({ located }) => located)) rollBack(charge, holdings);

  const [first] = holdings;
  const replayed = isReplayOf(charge, first, first !== undefined && moving.has(first));
  const { allowed } = verdict;
  return { ...standingsAfter(verdict, attempt, keys), allowed, replayed, conflicts: false, charged: allowed };
}

function eventsToMove({ charge, clock }: ChargeAttempt, keys: readonly Holding[]): Map<Holding, Located> {
  const moving = new Map<Holding, Located>();
  for (const key of keys)
    if (key.located && mayBelongToAttemptInFlight(key, charge, clock.atMs)) moving.set(key, key.located);
  return moving;
}

/** Would these keys admit the cost if the events to move had left already? */
function checkWithout(
  moving: ReadonlyMap<Holding, Located>,
  { charge, holdings, clock }: ChargeAttempt,
  keys: readonly Holding[],
): Verdict {
  const isAll = keys.length === holdings.length;
  const question = isAll ? charge : { ...charge, counters: keys.flatMap(({ counters }) => counters) };
  for (const [{ account }, { event }] of moving) account.removeFromLogs(event);
  const verdict = check(countersOf(question, keys, clock.atMs), charge.cost, clock.atMs);
  for (const [{ account }, { event }] of moving) account.recordInLogs(event);
  return verdict;
}

/** How all counters stand after the verdict of these keys. */
function standingsAfter(verdict: Verdict, { charge, holdings, clock }: ChargeAttempt, keys: readonly Holding[]) {
  // An admission is never cached.
  if (verdict.allowed) return verdictOf({ ...charge, cacheMs: undefined }, holdings, clock.atMs);
  // A flood has new ids: nothing was held and nothing changed, so the denial itself says how all counters stand.
  const isComplete = keys.length === holdings.length && !keys.some(({ located }) => located);
  return verdictOf(charge, holdings, clock.atMs, isComplete ? verdict : undefined);
}

/** How all counters stand, of a verdict that is not cached. */
function standingsOf({ charge, holdings, clock }: ChargeAttempt) {
  return verdictOf({ ...charge, cacheMs: undefined }, holdings, clock.atMs);
}

/** Records a new event, or moves the event of another attempt to now. */
function recordCharge(charge: Charge, key: Holding, moving: Located | undefined, { atMs, marginMs }: Clock): void {
  const { policy, cost, attempt, windowMs, id, identity } = charge;
  const { account, counters } = key;
  const claims = withClaim(moving?.event.claims ?? [], attempt, true);
  // A charge takes its full cost and a place, even if the moved event was settled or released.
  const asOfNow = { atMs, cost, claims, released: false };
  if (moving) {
    account.change(moving, undefined);
    account.append({ ...moving.event, ...asOfNow });
    return;
  }
  const retainMs = retainMsOf(charge, key, atMs, marginMs);
  const charged = { policy, layers: layerNames(counters), retainMs, windowMs };
  const event: PagedEvent = { id, identity, admittedCost: cost, charged, ...asOfNow };
  account.append(event);
}

/** Claims the events that are held of the id: they stay even if the attempts that made them roll back. */
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
