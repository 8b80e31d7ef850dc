import { check } from "../core/decide";
import { isInShadow, layersOf } from "../core/identity";
import { type Remembered, recognise } from "../core/recognition";
import { makersOf, withClaim, withoutClaim } from "./claims";
import { countersOf, type Opened, openedOf, retainMsOf, standingOf } from "./opened";
import type { Located } from "./pages";
import type { Charge, ChargeAnswer } from "./protocol";

/** The margin by which an id is remembered for longer than it is known: objects' clocks may differ by so much. */
interface Clock {
  readonly atMs: number;
  readonly marginMs: number;
}

/** A key of a charge, and what it holds of the charge's id. */
interface Holding extends Opened {
  readonly located: Located | undefined;
  /** This very attempt has charged it: the answer was lost. */
  readonly isCharged: boolean;
  readonly remembered: Remembered | undefined;
}

/**
 * Records a charge in all of its counters, or in none. An id of which its keys hold something is judged first: here if nobody
 * else is asked, and otherwise by whoever asks (`core/recognition.ts`). All in one turn.
 */
export function consume(charge: Charge, opened: readonly Opened[], clock: Clock): ChargeAnswer {
  const { counters, attempt, alone, verdict } = charge;
  const holdings = opened.map((one) => holdingOf(charge, one, clock));
  const uncharged = holdings.filter(({ isCharged }) => !isCharged);
  const [first] = holdings;
  const replayed = first?.isCharged === true && makersIn(first)[0] !== attempt;
  if (verdict === "new" || !uncharged.some(({ remembered }) => remembered))
    return { ...date(charge, holdings, uncharged, clock), replayed };

  if (verdict === "known") {
    const unknown = uncharged.filter(({ remembered }) => !remembered);
    const answer = date(charge, holdings, unknown, clock);
    if (answer.allowed) rely(charge, uncharged);
    return { ...answer, replayed: true };
  }

  const remembered = counters.map(({ key }) => openedOf(key, holdings).remembered);
  const standing = standingOf({ ...charge, believeMs: undefined }, opened, clock.atMs);
  if (!alone) {
    rely(charge, uncharged);
    const isKnown = first?.remembered?.isInWindow === true;
    const conflicts = isKnown && first.remembered?.conflicts === true;
    const held = remembered.map((one) => one ?? null);
    const told = { replayed: replayed || isKnown, conflicts, charged: false, remembered: held };
    return { ...standing, allowed: true, ...told };
  }
  const recognition = recognise(layersIn(counters), remembered);
  if (recognition === "conflict" || recognition === "known") {
    const conflicts = recognition === "conflict";
    return { ...standing, allowed: !conflicts, replayed: true, conflicts, charged: false };
  }
  const earlier = recognition === "new" ? (first?.remembered?.makers ?? []) : [];
  const answer = date({ ...charge, earlier }, holdings, uncharged, clock);
  return { ...answer, replayed: replayed || recognition === "torn" };
}

/**
 * Lifts the claim of an attempt that was denied elsewhere, and takes the event back when no other attempt relies on it:
 * one may have been told that it is admitted.
 */
export function liftClaims({ id, subject, policy, attempt }: Charge, opened: readonly Opened[]): void {
  for (const { account, counters } of opened) {
    const located = account.find({ id, identity: subject, policy, counters });
    if (located) liftClaim({ account, located }, attempt);
  }
}

/**
 * Charges these keys as of now, all of them or none: where nothing is held of the id an event is added, and an old one
 * stays beside it. A young one is moved to now, since other attempts may be made at this moment and rely on it.
 */
function date(charge: Charge, all: readonly Opened[], keys: readonly Holding[], clock: Clock): ChargeAnswer {
  const { policy, cost, attempt, keepMs, id, subject: identity } = charge;
  const { atMs } = clock;
  const young = keys.filter((holding) => isYoung(holding, charge, atMs));
  const isLeft = (holding: Holding) => !young.includes(holding);
  // What stays beside is not this attempt's, whatever becomes of it; what nobody else relies on is gone.
  for (const { account, located } of keys.filter(isLeft)) if (located) liftClaim({ account, located }, attempt);

  const isAll = keys.length === all.length;
  const asked = isAll ? charge : { ...charge, counters: keys.flatMap(({ counters }) => counters) };
  for (const { account, located } of young) account.withdraw((located as Located).event);
  const verdict = check(countersOf(asked, keys, atMs), cost, atMs);
  for (const { account, located } of young) account.putBack((located as Located).event);

  for (const holding of keys) {
    const { account, counters, located } = holding;
    if (!located || isLeft(holding)) {
      if (!verdict.allowed) continue;
      const retainMs = retainMsOf(charge, holding, atMs, clock.marginMs);
      const charged = { policy, layers: layersIn(counters), retainMs, windowMs: keepMs };
      const claims = withClaim([], attempt, true);
      account.append({ id, atMs, cost, charged, identity, claims, admittedCost: cost, released: false });
    } else if (verdict.allowed) {
      const { event } = located;
      account.change(located, undefined);
      account.append({ ...event, atMs, claims: withClaim(event.claims, attempt, true) });
      // Who denies an attempt holds nothing of it.
    } else liftClaim({ account, located }, attempt);
  }
  const { allowed } = verdict;
  // A flood is denied, and nothing is held of its ids: how all counters stand is known then.
  const isUntouched = !allowed && isAll && !keys.some(({ located }) => located);
  const asAsked = allowed ? { ...charge, believeMs: undefined } : charge;
  const standing = standingOf(asAsked, all, atMs, isUntouched ? verdict : undefined);
  return { ...standing, allowed, replayed: false, conflicts: false, charged: allowed };
}

/** Lays the attempt's claim on what is held of the id: whoever made that may take it back. */
function rely({ alone, attempt }: Charge, holdings: readonly Holding[]): void {
  if (alone) return;
  for (const { account, located } of holdings) {
    if (!located) continue;
    const { event } = located;
    const claims = withClaim(event.claims, attempt, false);
    if (claims !== event.claims) account.change(located, { ...event, claims });
  }
}

function liftClaim({ account, located }: { account: Opened["account"]; located: Located }, attempt: string): void {
  const { event } = located;
  if (!event.claims.some((claim) => claim.attempt === attempt && claim.relies)) return;
  const claims = withoutClaim(event.claims, attempt);
  account.change(located, claims && { ...event, claims });
}

/** An event of another policy, which its subject is known by there. */
const CONFLICT: Remembered = { isInWindow: true, makers: [], layers: [], isOtherMode: false, conflicts: true };

function holdingOf(charge: Charge, opened: Opened, { atMs, marginMs }: Clock): Holding {
  const { id, subject: identity, policy, cost, attempt, aliases = [] } = charge;
  const { account, counters } = opened;
  const name = { id, identity, policy, counters };
  const located = account.find(name);
  if (located && atMs - located.event.atMs < located.event.charged.windowMs + marginMs) {
    const { event } = located;
    const isCharged = event.claims.some((claim) => claim.attempt === attempt && claim.isMaker && claim.relies);
    const remembered: Remembered = {
      isInWindow: isInWindow(located, atMs),
      makers: makersOf(event.claims),
      layers: layersOf(event.identity),
      isOtherMode: isInShadow(event.identity) !== isInShadow(identity),
      conflicts: event.charged.policy !== policy || event.admittedCost !== cost,
    };
    return { account, counters, located, isCharged, remembered: isCharged ? undefined : remembered };
  }
  const isAlias = aliases.some((alias) => {
    const other = account.findExactly(id, alias);
    return other !== undefined && other.event.charged.policy !== policy && isInWindow(other, atMs);
  });
  return { account, counters, located: undefined, isCharged: false, remembered: isAlias ? CONFLICT : undefined };
}

/** It may be of an attempt that is being made just now, and is of no decision before this one. */
function isYoung({ located, remembered }: Holding, charge: Charge, atMs: number): boolean {
  const { youngMs = 0, earlier = [] } = charge;
  if (!located || !remembered || remembered.conflicts || remembered.isOtherMode) return false;
  const isEarlier = remembered.makers.some((maker) => earlier.includes(maker));
  return !isEarlier && atMs - located.event.atMs <= youngMs;
}

/** By the clock of this object, an event's id is known. */
export function isInWindow({ event }: Located, atMs: number): boolean {
  return atMs - event.atMs < event.charged.windowMs;
}

export function layersIn(counters: readonly { readonly layer: string }[]): string[] {
  return counters.map(({ layer }) => layer);
}

function makersIn({ located }: Holding): string[] {
  return located ? makersOf(located.event.claims) : [];
}
