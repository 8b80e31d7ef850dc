import type { Cost } from "../core/cost";
import type { Limit } from "../core/limit";
import type { Standing } from "../core/standing";
import type {
  Call,
  CallResult,
  ChangeVerdict,
  Charge,
  ChargeVerdict,
  Method,
  ObjectVerdict,
  Question,
  VerdictOf,
} from "./protocol";

/**
 * Calls and results as they travel: flat JSON arrays. What many calls of a message share, such as the limits of a policy,
 * is a *shape* and travels once a message. An admission or a plain denial is an array of numbers; a verdict with more to
 * say travels as an object.
 *
 * During a deploy old and new code talk for minutes. A message says its version, and a reader takes every version that a
 * deployed writer sends. New fields stand at the end of an array.
 *
 * A message with a cost by layer has a version of its own: code that does not know such costs refuses the whole message. Any
 * other message is what that code takes.
 */
const VERSION = 2;
const VERSION_WITH_COSTS_BY_LAYER = 3;

type LimitTuple = [max: number, windowMs: number, kind?: "concurrent"];
type ShapeTuple = [
  policy: string,
  windowMs: number,
  attemptMs: number | null,
  cacheMs: number | null,
  counters: [layer: string, limits: LimitTuple[]][],
];
type CallTuple = [method: number, shape: number, cost: Cost, keys: string[], ...event: unknown[]];

/** The rest of a charge, which few have. */
type ChargeRest = Pick<Charge, "recognition" | "earlierMakers" | "aliases">;

const METHODS = ["check", "consume", "rollBack", "settle", "release"] as const satisfies Method[];

const limitTexts = new WeakMap<readonly Limit[], string>();

export function encodeCalls(calls: readonly Call[]): string {
  const shapes = new Map<string, number>();
  let text = "";
  let version = VERSION;
  for (const { method, question } of calls) {
    const { cost } = question;
    // Earlier code knows 0 in a settle only.
    if (typeof cost !== "number" || (cost === 0 && method !== "settle")) version = VERSION_WITH_COSTS_BY_LAYER;
    const costText = typeof cost === "number" ? cost : JSON.stringify(cost);
    const shapeText = textOfShape(question);
    const shape = shapes.get(shapeText) ?? shapes.size;
    if (shape === shapes.size) shapes.set(shapeText, shape);
    let keys = "";
    for (const { key } of question.counters) keys += `${keys && ","}${JSON.stringify(key)}`;
    text += `${text && ","}[${METHODS.indexOf(method)},${shape},${costText},[${keys}]${textOfEvent(question)}]`;
  }
  return `{"v":${version},"shapes":[${[...shapes.keys()].join()}],"calls":[${text}]}`;
}

export function decodeCalls(text: string): Call[] {
  const message = JSON.parse(text) as { v: number; shapes: ShapeTuple[]; calls: CallTuple[] };
  if (message.v !== VERSION && message.v !== VERSION_WITH_COSTS_BY_LAYER)
    throw new Error(`this version of the object does not know messages of version ${message.v}`);
  const shapes = message.shapes.map(shapeOf);
  return message.calls.map(([method, index, cost, keys, id, identity, attempt, isOnlyPart, rest]) => {
    const shape = shapes[index];
    if (!shape) throw new Error(`the message has no shape ${index}`);
    const { policy, cacheMs, windowMs, attemptMs } = shape;
    const isCharge = attempt !== undefined;
    // One shape of object for all calls, so that the code that reads them stays fast.
    const question = {
      policy,
      cost,
      counters: keys.map((key, c) => ({ layer: shape.layers[c] as string, key, limits: shape.limits[c] as Limit[] })),
      cacheMs,
      id,
      identity,
      attempt,
      isOnlyPart: isCharge ? isOnlyPart === 1 : undefined,
      windowMs: isCharge ? windowMs : undefined,
      attemptMs,
    };
    // A call of newer code fails by itself, in the ledger.
    const name = METHODS[method] ?? String(method);
    return { method: name, question: rest ? { ...question, ...(rest as ChargeRest) } : question } as Call;
  });
}

function shapeOf([policy, windowMs, attemptMs, cacheMs, counters]: ShapeTuple) {
  return {
    policy,
    windowMs,
    attemptMs: attemptMs ?? undefined,
    cacheMs: cacheMs ?? undefined,
    layers: counters.map(([layer]) => layer),
    limits: counters.map(([, limits]) => limits.map(limitOf)),
  };
}

export function encodeResults(results: readonly CallResult[]): string {
  let text = "";
  for (const result of results) {
    const flat = "verdict" in result ? textOfVerdict(result.verdict) : undefined;
    text += `${text && ","}${flat ?? JSON.stringify(result)}`;
  }
  return `[${text}]`;
}

/** `calls`: the calls that the results belong to. */
export function decodeResults(text: string, calls: readonly Call[]): CallResult[] {
  const results = JSON.parse(text) as (number[] | CallResult)[];
  return results.map((result, i) => (Array.isArray(result) ? { verdict: verdictOf(result, calls[i]) } : result));
}

function textOfShape(question: Question & Partial<Charge>): string {
  const { policy, windowMs = 0, attemptMs = null, cacheMs = null, counters } = question;
  let layers = "";
  for (const { layer, limits } of counters) layers += `${layers && ","}["${layer}",${textOfLimits(limits)}]`;
  return `["${policy}",${windowMs},${attemptMs},${cacheMs},[${layers}]]`;
}

/** Cached: the limits of a policy are the same array in every call. */
function textOfLimits(limits: readonly Limit[]): string {
  const cached = limitTexts.get(limits);
  if (cached !== undefined) return cached;
  const tuples = limits.map(({ kind, max, windowMs }): LimitTuple => (kind ? [max, windowMs, kind] : [max, windowMs]));
  const text = JSON.stringify(tuples);
  limitTexts.set(limits, text);
  return text;
}

function limitOf([max, windowMs, kind]: LimitTuple): Limit {
  return kind ? { kind, max, windowMs } : { max, windowMs };
}

function textOfEvent(question: Question & Partial<Charge>): string {
  const { id, identity, attempt, isOnlyPart, recognition, earlierMakers, aliases } = question;
  if (id === undefined) return "";
  // Ids and attempts are made of characters that JSON does not escape.
  if (attempt === undefined) return `,"${id}","${identity}"`;
  const charge = `,"${id}","${identity}","${attempt}",${isOnlyPart ? 1 : 0}`;
  const hasRest = recognition !== undefined || (earlierMakers?.length ?? 0) > 0 || (aliases?.length ?? 0) > 0;
  return hasRest ? `${charge},${JSON.stringify({ recognition, earlierMakers, aliases })}` : charge;
}

/** Flags of a flat verdict. A charge has the first four, a change the last. */
const ALLOWED = 1;
const REPLAYED = 2;
const CONFLICTS = 4;
const CHARGED = 8;
const FOUND = 16;

type AnyVerdict = ObjectVerdict & Partial<ChargeVerdict> & Partial<ChangeVerdict>;

/** `[flags, atMs, used, fitsInMs, freesInMs, resetsInMs, …]`, or undefined if the verdict has more to say. */
function textOfVerdict(verdict: AnyVerdict): string | undefined {
  const { allowed, replayed, conflicts, charged, found, atMs, standings, overrides, leavings, held } = verdict;
  if (overrides || leavings || held) return undefined;
  const flags =
    (allowed ? ALLOWED : 0) |
    (replayed ? REPLAYED : 0) |
    (conflicts ? CONFLICTS : 0) |
    (charged ? CHARGED : 0) |
    (found ? FOUND : 0);
  let text = `[${flags},${atMs}`;
  for (const limits of standings)
    for (const { used, fitsInMs, freesInMs, resetsInMs, fullForMs } of limits) {
      if (fullForMs !== undefined) return undefined;
      // JSON has no number for a cost that never fits.
      if (!Number.isFinite(fitsInMs)) return undefined;
      text += `,${used},${fitsInMs},${freesInMs},${resetsInMs}`;
    }
  return `${text}]`;
}

function verdictOf(flat: readonly number[], call: Call | undefined): VerdictOf<Method> {
  const [flags = 0, atMs = 0] = flat;
  const standings: Standing[][] = [];
  let at = 2;
  for (const { limits } of call?.question.counters ?? []) {
    const ofCounter: Standing[] = [];
    for (let l = 0; l < limits.length; l++, at += 4) ofCounter.push(standingAt(flat, at));
    standings.push(ofCounter);
  }
  const verdict = { allowed: (flags & ALLOWED) !== 0, atMs, standings };
  if (call?.method === "settle" || call?.method === "release") return { ...verdict, found: (flags & FOUND) !== 0 };
  if (call?.method !== "consume") return verdict;
  return {
    allowed: verdict.allowed,
    atMs,
    standings,
    replayed: (flags & REPLAYED) !== 0,
    conflicts: (flags & CONFLICTS) !== 0,
    charged: (flags & CHARGED) !== 0,
  };
}

function standingAt(flat: readonly number[], at: number): Standing {
  return {
    used: integerAt(flat, at),
    fitsInMs: integerAt(flat, at + 1),
    freesInMs: integerAt(flat, at + 2),
    resetsInMs: integerAt(flat, at + 3),
  };
}

/**
 * V8 reads an array with a time in it as floating-point numbers. To keep and to write those takes far longer than small
 * integers, which `| 0` makes of them.
 */
function integerAt(flat: readonly number[], at: number): number {
  const value = flat[at] as number;
  return value < 2 ** 30 ? value | 0 : value;
}
