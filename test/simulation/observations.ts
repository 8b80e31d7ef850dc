import type { DecisionLimit } from "../../src/limiter/decision";
import { groupBy } from "./groups";
import type { Leaving } from "./model";
import type { ToldForgetting } from "./orders";
import { type Deed, type Done, isWhole, nameOf, type Told } from "./record";
import { shadowNameOf } from "./shadows";

/** Of deeds, by counter and limit, what was in use and when it leaves the window. */
export type Leavings = Map<Deed, readonly (readonly (readonly Leaving[])[])[]>;

/** For so long a call may wait for what another one learns before it asks the objects itself. */
const LONGEST_PATIENCE_MS = 50;

/**
 * What is wrong with what callers were told. An answer is the objects' own, to this very call; or it is a denial that
 * the isolate had from the objects just before, counted down. The network takes a millisecond at least, so what was told
 * in no time did not come from the objects.
 */
export function untruthsIn(
  told: readonly Told[],
  orders: readonly ToldForgetting[],
  deeds: readonly Deed[],
  denyCacheMs: number,
  leavings: Leavings,
): string[] {
  const isTrue = (one: Told) =>
    (one.toldAtMs > one.askedAtMs && isHeard(one, deeds)) ||
    told.some(
      (earlier) =>
        earlier !== one &&
        isMemoryOf(earlier, one, told, orders, denyCacheMs) &&
        isCountedDown(earlier, one, deeds, leavings),
    );
  return told
    .filter((one) => !isTrue(one))
    .map((one) => `nobody said what was told to ${one.op} ${nameOf(one.asked)}: ${JSON.stringify(one.decided)}`);
}

function isHeard(one: Told, deeds: readonly Deed[]): boolean {
  const { decided, asked, before, after } = one;
  const done = deeds.slice(before, after).filter(({ committed }) => committed);
  const isSaid = (limit: DecisionLimit) =>
    done.some(({ what }) => isAbout(one, what, limit.isShadow) && says(what, limit));
  // The live layers decide alone.
  const saysWhy = decided.allowed
    ? asked.counters.every((counter) => isWhole(counter, decided.limits))
    : liveOf(one).some(({ standing }) => standing.fitsInMs > 0);
  return saysWhy && decided.limits.every(isSaid);
}

function liveOf({ decided }: Told): DecisionLimit[] {
  return decided.limits.filter(({ isShadow }) => !isShadow);
}

/** A deed was done for a call. Checks are all alike that ask for the same cost. */
function isAbout(one: Told, { method, question }: Done, isShadow: boolean): boolean {
  const { op, asked, place } = one;
  // A new consume may be checked first, when less than it asks for was denied a moment ago, and one of a batch when it is
  // decided again; one that was denied is only checked in shadow.
  const mayCheck = op === "check" || (op === "consume" && (isShadow || asked.isNew === true || place !== undefined));
  if (method === "check") return question.cost === asked.cost && mayCheck;
  const isOfOne = (change: string) => (op === change) === (method === change);
  const name = isShadow ? shadowNameOf(one) : nameOf(asked);
  return isOfOne("settle") && isOfOne("release") && nameOf(question) === name;
}

function says({ question, verdict: answer }: Done, { layer, key, limit, standing, override }: DecisionLimit): boolean {
  return question.counters.some((counter, c) => {
    const overridden = answer.overrides?.[c] ?? undefined;
    return (
      counter.key === key &&
      counter.layer === layer &&
      isSame(overridden, override) &&
      (overridden?.limits ?? counter.limits).some(
        (one, l) => isSame(one, limit) && isSame(answer.standings[c]?.[l], standing),
      )
    );
  });
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** `one` is what is left of the denial `earlier`, which no settle, release or order of the same isolate has made void. */
function isMemoryOf(
  earlier: Told,
  one: Told,
  told: readonly Told[],
  orders: readonly ToldForgetting[],
  denyCacheMs: number,
): boolean {
  const { asked, decided, toldAtMs: nowMs } = one;
  if (one.op !== "consume" || asked.isNew !== true || decided.allowed) return false;
  if (earlier.op !== "consume" || earlier.decided.allowed || earlier.asked.cost !== asked.cost) return false;
  // To the live layers all subjects are the same that they count by the same keys.
  const isOfMine = (other: Told) => other.isolate === one.isolate && isSame(other.asked.counters, asked.counters);
  // One that is told later, because layers in shadow were asked too, is remembered from when the live ones had answered.
  const inShadow = asked.policy.layers.some(({ mode }) => mode === "shadow");
  if (!isOfMine(earlier) || (inShadow ? earlier.askedAtMs : earlier.toldAtMs) > nowMs) return false;
  // It may have waited for another one before it asked.
  const waited = told.some((other) => other !== earlier && isOfMine(other) && overlap(other, earlier));
  const askedAtMs = earlier.askedAtMs + (waited && !earlier.place ? LONGEST_PATIENCE_MS : 0);
  const longestMs = Math.max(...liveOf(earlier).map(({ standing }) => standing.fitsInMs));
  if (nowMs - askedAtMs >= Math.min(denyCacheMs, longestMs)) return false;
  const makesRoom = ({ op }: Told) => op === "settle" || op === "release";
  // What makes room makes it when the live layers have answered.
  const isBetween = (other: Pick<Told, "askedAtMs" | "toldAtMs">) =>
    askedAtMs < (inShadow ? other.askedAtMs : other.toldAtMs) && other.toldAtMs < nowMs;
  const isOfMyKey = ({ isolate, key }: ToldForgetting) =>
    isolate === one.isolate && asked.counters.some((counter) => counter.key === key);
  const isVoid =
    told.some((other) => makesRoom(other) && isOfMine(other) && isBetween(other)) ||
    orders.some((order) => isOfMyKey(order) && isBetween(order));
  const leastMs = Math.max(0, nowMs - earlier.toldAtMs);
  const sinceMs: Span = [leastMs, inShadow ? nowMs - earlier.askedAtMs : leastMs];
  return !isVoid && decided.limits.every((limit, i) => isLeftOf(liveOf(earlier)[i], limit, sinceMs));
}

/** What is in use counts down with the waits: what has left the window since is in use no more. */
function isCountedDown(earlier: Told, one: Told, deeds: readonly Deed[], leavings: Leavings): boolean {
  const [leastMs, mostMs] = [one.toldAtMs - earlier.toldAtMs, one.toldAtMs - earlier.askedAtMs];
  const done = deeds.slice(earlier.before, earlier.after);
  return liveOf(earlier).every((limit, i) => {
    const used = one.decided.limits[i]?.standing.used ?? -1;
    return done.some((deed) => {
      if (!deed.committed || !isAbout(earlier, deed.what, false)) return false;
      const counted = countedBy(deed, limit, leavings);
      const usedAfter = (ms: number) =>
        counted?.filter(({ inMs }) => inMs > ms).reduce((sum, { weight }) => sum + weight, 0);
      return isIn([usedAfter(mostMs) ?? 1, usedAfter(leastMs) ?? 0], used);
    });
  });
}

/** What a limit counted at a deed that said how it stands. */
function countedBy(deed: Deed, limit: DecisionLimit, leavings: Leavings): readonly Leaving[] | undefined {
  const { question, verdict: answer } = deed.what;
  const c = question.counters.findIndex(({ layer, key }) => layer === limit.layer && key === limit.key);
  const l = answer.standings[c]?.findIndex((standing) => isSame(standing, limit.standing)) ?? -1;
  return leavings.get(deed)?.[c]?.[l];
}

function overlap(one: Told, other: Told): boolean {
  return one.askedAtMs <= other.toldAtMs && other.askedAtMs <= one.toldAtMs;
}

type Span = readonly [leastMs: number, mostMs: number];

function isLeftOf(earlier: DecisionLimit | undefined, { standing, override }: DecisionLimit, sinceMs: Span): boolean {
  if (!earlier) return false;
  if (override?.kind !== earlier.override?.kind) return false;
  if (override && earlier.override && !isIn(sinceMs, earlier.override.endsInMs - override.endsInMs)) return false;
  const [leastMs, mostMs] = sinceMs.map((ms) => Math.max(0, earlier.standing.fitsInMs - ms)).reverse() as [
    number,
    number,
  ];
  return isIn([leastMs, mostMs], standing.fitsInMs);
}

function isIn([leastMs, mostMs]: Span, ms: number): boolean {
  return leastMs <= ms && ms <= mostMs;
}

/** A message that was sent before may still arrive so much later. */
const LATE_MS = 4_000;

/**
 * Calls of one batch that meet in one object are decided in their order, also when something is lost and asked again. What
 * counts is the first time that an object did what it keeps.
 */
export function outOfOrder(told: readonly Told[], deeds: readonly Deed[]): string[] {
  // What is new may be checked before it is consumed.
  const placed = told.filter((one) => one.place?.isFirst && one.op !== "check" && one.asked.isNew !== true);
  const named = groupBy(told, ({ op, asked }) => `${op} ${nameOf(asked)}`);
  const batches = groupBy(
    placed.filter((one) => isAlone(one, named.get(`${one.op} ${nameOf(one.asked)}`) ?? [])),
    ({ place }) => place?.batch ?? "",
  );
  return [...batches.values()].flatMap((batch) => {
    const calls = batch.sort((one, other) => (one.place?.index ?? 0) - (other.place?.index ?? 0));
    const first = calls.map((one) => firstDeeds(one, deeds));
    return calls.flatMap((later, l) =>
      calls
        .slice(0, l)
        .flatMap((earlier, e) =>
          [...(first[l] ?? [])]
            .filter(([object, at]) => (first[e]?.get(object) ?? at) > at)
            .map(
              ([object]) =>
                `${object} decided ${nameOf(later.asked)} before ${nameOf(earlier.asked)} of the same batch`,
            ),
        ),
    );
  });
}

/** No other call, of this batch or shortly before, asked the same: of two, no deed shows whose it is. */
function isAlone(one: Told, alike: readonly Told[]): boolean {
  return !alike.some(
    (other) => other !== one && other.askedAtMs <= one.toldAtMs && other.toldAtMs + LATE_MS >= one.askedAtMs,
  );
}

/** The deed by which each object did first, and for good, what it was asked. */
function firstDeeds({ op, asked, before, after }: Told, deeds: readonly Deed[]): Map<string, number> {
  const first = new Map<string, number>();
  for (let i = before; i < after; i++) {
    const { object, what, committed } = deeds[i] as Deed;
    if (committed && what.method === op && what.method !== "check" && nameOf(what.question) === nameOf(asked))
      if (!first.has(object)) first.set(object, i);
  }
  return first;
}
