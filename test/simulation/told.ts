import type { Decided, DecidedLimit } from "../../src/edge/decision";
import type { AskedById } from "../../src/edge/request";
import type { AskedCounter, EventQuestion } from "../../src/object/protocol";
import type { Deed, Done } from "./network";
import type { ToldOrder } from "./orders";
import { shadowNameOf } from "./shadows";

/** A call that was answered: what was asked, when and of which isolate, and what its caller was told. */
export interface Told {
  readonly op: "consume" | "check" | "settle" | "release";
  readonly isolate: number;
  /** The id of a check is empty. */
  readonly asked: AskedById & { readonly isNew?: boolean };
  readonly decided: Pick<Decided, "allowed" | "replayed" | "limits"> &
    Partial<Pick<Decided, "wouldDeny" | "isRemembered">>;
  readonly askedAtMs: number;
  readonly toldAtMs: number;
  /** How many deeds of the objects there were when it was asked, and when it was told. */
  readonly before: number;
  readonly after: number;
  /** Of a call in a batch: which batch, and where in it. */
  readonly place?: { readonly batch: string; readonly index: number };
}

/** For so long a call may wait for what another one learns before it asks the objects itself. */
const LONGEST_PATIENCE_MS = 50;

/** Of an event, or of the call that asks about it. */
export function nameOf(one: Pick<EventQuestion, "id" | "subject"> | Pick<AskedById, "id" | "identity">): string {
  return `${one.id} ${"subject" in one ? one.subject : one.identity}`;
}

/**
 * What is wrong with what callers were told. An answer is the objects' own, to this very call; or it is a denial that
 * the isolate had from the objects just before, counted down. The network takes a millisecond at least, so what was told
 * in no time did not come from the objects.
 */
export function untruthsIn(
  told: readonly Told[],
  orders: readonly ToldOrder[],
  deeds: readonly Deed[],
  denyCacheMs: number,
): string[] {
  const isTrue = (one: Told) =>
    (one.toldAtMs > one.askedAtMs && isHeard(one, deeds)) ||
    told.some((earlier) => earlier !== one && isMemoryOf(earlier, one, told, orders, denyCacheMs));
  return told
    .filter((one) => !isTrue(one))
    .map((one) => `nobody said what was told to ${one.op} ${nameOf(one.asked)}: ${JSON.stringify(one.decided)}`);
}

function isHeard(one: Told, deeds: readonly Deed[]): boolean {
  const { decided, asked, before, after } = one;
  const done = deeds.slice(before, after).filter(({ committed }) => committed);
  const isSaid = (limit: DecidedLimit) =>
    done.some(({ what }) => isAbout(one, what, limit.isShadow) && says(what, limit));
  // The live layers decide alone.
  const saysWhy = decided.allowed
    ? asked.counters.every((counter) => isWhole(counter, decided.limits))
    : liveOf(one).some(({ standing }) => standing.fitsInMs > 0);
  return saysWhy && decided.limits.every(isSaid);
}

function liveOf({ decided }: Told): DecidedLimit[] {
  return decided.limits.filter(({ isShadow }) => !isShadow);
}

/** Every limit in force of a counter was told. */
export function isWhole({ layer, key, limits }: AskedCounter, told: readonly DecidedLimit[]): boolean {
  const mine = told.filter((limit) => limit.layer === layer && limit.key === key);
  return mine.length === (mine[0]?.override?.limits ?? limits).length;
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

function says({ question, answer }: Done, { layer, key, limit, standing, override }: DecidedLimit): boolean {
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
  orders: readonly ToldOrder[],
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
  const isOfMyKey = ({ isolate, key }: ToldOrder) =>
    isolate === one.isolate && asked.counters.some((counter) => counter.key === key);
  const isVoid =
    told.some((other) => makesRoom(other) && isOfMine(other) && isBetween(other)) ||
    orders.some((order) => isOfMyKey(order) && isBetween(order));
  const leastMs = Math.max(0, nowMs - earlier.toldAtMs);
  const sinceMs: Span = [leastMs, inShadow ? nowMs - earlier.askedAtMs : leastMs];
  return !isVoid && decided.limits.every((limit, i) => isLeftOf(liveOf(earlier)[i], limit, sinceMs));
}

function overlap(one: Told, other: Told): boolean {
  return one.askedAtMs <= other.toldAtMs && other.askedAtMs <= one.toldAtMs;
}

type Span = readonly [leastMs: number, mostMs: number];

function isLeftOf(earlier: DecidedLimit | undefined, { standing, override }: DecidedLimit, sinceMs: Span): boolean {
  // What has left a window since is not in use any more.
  if (!earlier || standing.used > earlier.standing.used) return false;
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

/** Calls of one batch that meet in one object are decided in their order: while nothing is lost and asked again. */
export function outOfOrder(told: readonly Told[], deeds: readonly Deed[]): string[] {
  const mistakes: string[] = [];
  const firstDeed = ({ op, asked, before }: Told, object: string) =>
    deeds.findIndex(
      ({ object: other, what }, i) =>
        i >= before &&
        other === object &&
        what.method === op &&
        what.method !== "check" &&
        nameOf(what.question) === nameOf(asked),
    );
  const isRepeated = ({ op, asked, place }: Told) =>
    told.some(
      (other) =>
        other.op === op &&
        other.place?.batch === place?.batch &&
        (other.place?.index ?? 0) < (place?.index ?? 0) &&
        nameOf(other.asked) === nameOf(asked),
    );
  // What is new may be checked before it is consumed; of what a batch says twice, no deed shows whose it is.
  const placed = told.filter((one) => one.place && one.op !== "check" && one.asked.isNew !== true && !isRepeated(one));
  const objects = [...new Set(deeds.map(({ object }) => object))];
  for (const one of placed)
    for (const other of placed) {
      if (one.place?.batch !== other.place?.batch || (one.place?.index ?? 0) >= (other.place?.index ?? 0)) continue;
      for (const object of objects) {
        const [first, second] = [firstDeed(one, object), firstDeed(other, object)];
        if (second >= 0 && first > second)
          mistakes.push(`${object} decided ${nameOf(other.asked)} before ${nameOf(one.asked)} of the same batch`);
      }
    }
  return mistakes;
}
