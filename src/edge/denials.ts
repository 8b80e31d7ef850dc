import { MOST_LEAVINGS, type Standing } from "../core/log";
import type { Overridden } from "../core/override";
import type { Answer, Question } from "../object/protocol";

/** What is remembered takes so much memory at most, about, and of each question so many costs: what was denied last. */
const MOST_BYTES = 8 * 1_048_576;
const MOST_COSTS = 8;

/** A denial, and when it was asked for and answered: the object's own time of it was somewhere between. */
interface Denial {
  readonly answer: Answer;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  /** From when it was asked for: figures are foretold for as long. */
  readonly believedMs: number;
  /** Something may have made room since. */
  isDoubtful: boolean;
}

/** What was denied of one question, by cost. */
interface Denied {
  readonly keys: readonly string[];
  readonly costs: Map<number, Denial>;
  weightBytes: number;
}

/** The objects are being asked a question. */
interface Asking {
  readonly name: string;
  readonly keys: readonly string[];
  readonly askedAtMs: number;
  /** Something may have made room meanwhile: what they answer may be older than that. */
  isVoid: boolean;
}

/**
 * What is known of a question that was denied before:
 * - the denial, counted down;
 * - `less`: a lower cost was denied, and so is this one: for how long, nobody knows;
 * - `lapsed`: it was denied, and has not left the window, but that is believed no longer: it is too old, or doubtful;
 * - `soon`: the same, and somebody is asking again already.
 */
export type Recalled = Answer | "less" | "lapsed" | "soon";

/**
 * What objects have denied lately, so that a flood is answered here and not by them. A denial holds until enough has
 * left the window, and it is believed for `mostMs` at most, since a settle, a release or a reset elsewhere may make room before;
 * one that is heard of here makes doubtful what was denied by its keys, to whomever.
 * It is remembered of the whole question: what one of its counters had was perhaps about to be put back, and nobody else
 * shall be denied for that. Nothing here ever admits.
 *
 * It lives as long as the configuration that it was decided by. Times are those of this isolate, so only durations of
 * the object's answer are used: a denial ends by when it was asked for, waits are told from when it was answered, and so
 * neither is wrong by more than the way there and back, to the side that costs nobody a request.
 */
export class Denials {
  /** By the name of the question, which is without its cost. */
  readonly #questions = new Map<string, Denied>();
  /** The names of the questions that are counted by a key. */
  readonly #namesOf = new Map<string, Set<string>>();
  readonly #underWay = new Set<Asking>();
  #weightBytes = 0;

  /** `mostMs` of 0 remembers nothing. */
  constructor(
    private readonly mostMs: number,
    private readonly now: () => number,
  ) {}

  /** Asks the objects, and remembers when they deny; an admission makes what was denied before doubtful. */
  async learning<A extends Answer>(question: Question, ask: () => Promise<A>): Promise<A> {
    if (this.mostMs === 0) return ask();
    const keys = question.counters.map(({ key }) => key);
    const asking: Asking = { name: nameOf(question), keys, askedAtMs: this.now(), isVoid: false };
    this.#giveUpOnOld(asking.askedAtMs);
    this.#underWay.add(asking);
    try {
      const answer = await ask();
      if (answer.allowed) this.#forget(asking.name);
      else if (!asking.isVoid) this.#learn(asking, question.cost, answer);
      return answer;
    } finally {
      this.#underWay.delete(asking);
    }
  }

  /** What is known of a question; undefined when nothing is. */
  recall(question: Question): Recalled | undefined {
    if (this.#questions.size === 0) return undefined;
    const name = nameOf(question);
    const denied = this.#questions.get(name);
    if (!denied) return undefined;
    const nowMs = this.now();
    const standing = [...denied.costs].filter(([cost, denial]) => cost <= question.cost && stands(denial, nowMs));
    const believed = standing.filter(
      ([, { askedAtMs, believedMs, isDoubtful }]) => !isDoubtful && nowMs - askedAtMs < believedMs,
    );
    const same = believed.find(([cost]) => cost === question.cost)?.[1];
    if (same) return countedDown(same, nowMs);
    if (believed.length > 0) return "less";
    if (standing.length === 0) return undefined;
    return this.#isAsked(name, nowMs) ? "soon" : "lapsed";
  }

  /** Something may have made room for whoever is counted by these keys: what was denied to them, or is about to be. */
  doubt(keys: readonly string[]): void {
    for (const key of keys) {
      for (const name of this.#namesOf.get(key) ?? [])
        for (const denial of this.#questions.get(name)?.costs.values() ?? []) denial.isDoubtful = true;
      // All of these are doubtful, until they are learnt again: however many share a key, each is looked at once.
      this.#namesOf.delete(key);
    }
    for (const asking of this.#underWay) if (asking.keys.some((key) => keys.includes(key))) asking.isVoid = true;
  }

  forgetAll(): void {
    this.#questions.clear();
    this.#namesOf.clear();
    this.#weightBytes = 0;
    for (const asking of this.#underWay) asking.isVoid = true;
  }

  /**
   * Whoever hangs up takes its request along, which then never ends here: the runtime cancels it. What was asked for so
   * long ago would not be believed either.
   */
  #giveUpOnOld(nowMs: number): void {
    for (const asking of this.#underWay) {
      if (nowMs - asking.askedAtMs < this.mostMs) return;
      this.#underWay.delete(asking);
    }
  }

  #isAsked(name: string, nowMs: number): boolean {
    this.#giveUpOnOld(nowMs);
    for (const asking of this.#underWay) if (asking.name === name) return true;
    return false;
  }

  #learn({ name, keys, askedAtMs }: Asking, cost: number, answer: Answer): void {
    // Who can't say how its figures go on gives no answer that would be true a moment later.
    if (!answer.leavings) return;
    const denied = this.#questions.get(name) ?? { keys, costs: new Map<number, Denial>(), weightBytes: 0 };
    if (denied.costs.size >= MOST_COSTS) denied.costs.clear();
    const believedMs = believedFor(answer, this.mostMs);
    denied.costs.set(cost, { answer, askedAtMs, answeredAtMs: this.now(), believedMs, isDoubtful: false });
    // The last that is learnt stands last.
    this.#forget(name);
    this.#questions.set(name, denied);
    denied.weightBytes = weightOf(name, denied);
    this.#weightBytes += denied.weightBytes;
    for (const key of keys) this.#namesOf.set(key, (this.#namesOf.get(key) ?? new Set()).add(name));
    for (const oldest of this.#questions.keys()) {
      if (this.#weightBytes <= MOST_BYTES) break;
      this.#forget(oldest);
    }
  }

  #forget(name: string): void {
    const { keys = [], weightBytes = 0 } = this.#questions.get(name) ?? {};
    this.#questions.delete(name);
    this.#weightBytes -= weightBytes;
    for (const key of keys) {
      const names = this.#namesOf.get(key);
      names?.delete(name);
      if (names?.size === 0) this.#namesOf.delete(key);
    }
  }
}

/** Not enough has left the window since. A clock that went back makes what was learnt before it none the fresher. */
function stands({ answer, askedAtMs }: Denial, nowMs: number): boolean {
  const sinceMs = nowMs - askedAtMs;
  return sinceMs >= 0 && answer.standings.some((limits) => limits.some(({ fitsInMs }) => fitsInMs > sinceMs));
}

/** Keys have no line breaks, so that no two questions share a name. Callers may name limits themselves. */
function nameOf({ policy, counters }: Question): string {
  let name = policy;
  for (const { layer, key, limits } of counters) {
    name += `\n${key}\n${layer}`;
    for (const { kind = "", max, windowMs } of limits) name += ` ${max}${kind}/${windowMs}`;
  }
  return name;
}

/** About how many bytes a question takes with its denials: a number in JSON is one of eight bytes, and objects have headers. */
function weightOf(name: string, { keys, costs }: Denied): number {
  let bytes = 500 + 4 * name.length + 200 * keys.length;
  for (const { answer } of costs.values()) bytes += 500 + 5 * JSON.stringify(answer).length;
  return bytes;
}

/** For so long its figures are known: until a window loses what was not foretold, or what overrides a counter ends. */
function believedFor({ leavings = [], overrides = [] }: Answer, mostMs: number): number {
  const ends = overrides.flatMap((override) => override?.endsInMs ?? []);
  const foretold = leavings.flat().flatMap((ahead) => {
    const isCut = ahead.length === 2 * MOST_LEAVINGS;
    return isCut ? (ahead.at(-2) ?? []) : [];
  });
  return Math.min(mostMs, ...ends, ...foretold);
}

/** How things stand a while after the answer, if nobody has consumed since. */
function countedDown({ answer, answeredAtMs }: Denial, nowMs: number): Answer {
  const sinceMs = nowMs - answeredAtMs;
  const { standings, overrides, leavings, ...same } = answer;
  const override = ({ endsInMs, ownFitsInMs, ...kept }: Overridden): Overridden => ({
    ...kept,
    endsInMs: endsInMs - sinceMs,
    ownFitsInMs: Math.max(0, ownFitsInMs - sinceMs),
  });
  return {
    ...same,
    standings: standings.map((limits, c) =>
      limits.map((standing, l) => standingAfter(sinceMs, standing, leavings?.[c]?.[l] ?? [])),
    ),
    ...(overrides && { overrides: overrides.map((one) => one && override(one)) }),
  };
}

function standingAfter(sinceMs: number, standing: Standing, leavings: readonly number[]): Standing {
  let { used } = standing;
  let i = 0;
  for (; i < leavings.length && (leavings[i] as number) <= sinceMs; i += 2) used -= leavings[i + 1] as number;
  return {
    used,
    fitsInMs: Math.max(0, standing.fitsInMs - sinceMs),
    freesInMs: used > 0 ? (leavings[i] as number) - sinceMs : 0,
    resetsInMs: used > 0 ? standing.resetsInMs - sinceMs : 0,
  };
}
