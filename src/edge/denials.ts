import type { Standing } from "../core/log";
import type { Overridden } from "../core/override";
import type { Answer, Question } from "../object/protocol";

/** Questions that are remembered at most, those that were denied last, and costs of each: a dozen megabytes in all. */
const MOST_QUESTIONS = 5_000;
const MOST_COSTS = 8;

/** A denial, and when it was asked for and answered: the object's own time of it was somewhere between. */
interface Denial {
  readonly answer: Answer;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
}

/** The objects are being asked a question. */
interface Asking {
  /** Its name. */
  readonly question: string;
  readonly askedAtMs: number;
  /** Something has made room meanwhile: what they answer may be older than that. */
  isVoid: boolean;
}

/**
 * What is known of a question that was denied before:
 * - the denial, counted down;
 * - `less`: a lower cost was denied, and so is this one: for how long, nobody knows;
 * - `lapsed`: it was denied, and has not left the window, but that is believed no longer;
 * - `soon`: the same, and somebody is asking again already.
 */
export type Recalled = Answer | "less" | "lapsed" | "soon";

/**
 * What objects have denied lately, so that a flood is answered here and not by them. A denial holds until enough has
 * left the window, and it is believed for `mostMs` at most, since a settle, a release or a reset elsewhere may make room before.
 * It is remembered of the whole question: what one of its counters had was perhaps about to be put back, and nobody else
 * shall be denied for that. Nothing here ever admits.
 *
 * It lives as long as the configuration that it was decided by. Times are those of this isolate, so only durations of
 * the object's answer are used: a denial ends by when it was asked for, waits are told from when it was answered, and so
 * neither is wrong by more than the way there and back, to the side that costs nobody a request.
 */
export class Denials {
  /** What was denied, by the name of the question, which is without its cost, and by cost. */
  readonly #questions = new Map<string, Map<number, Denial>>();
  readonly #underWay = new Set<Asking>();

  /** `mostMs` of 0 remembers nothing. */
  constructor(
    private readonly mostMs: number,
    private readonly now: () => number,
  ) {}

  /** Asks the objects, and remembers when they deny; an admission makes what was denied before doubtful. */
  async learning<A extends Answer>(question: Question, ask: () => Promise<A>): Promise<A> {
    if (this.mostMs === 0) return ask();
    const asking: Asking = { question: nameOf(question), askedAtMs: this.now(), isVoid: false };
    this.#underWay.add(asking);
    try {
      const answer = await ask();
      if (answer.allowed) this.#questions.delete(asking.question);
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
    const costs = this.#questions.get(name);
    if (!costs) return undefined;
    const nowMs = this.now();
    const standing = [...costs].filter(([cost, denial]) => cost <= question.cost && stands(denial, nowMs));
    const believed = standing.filter(([, { askedAtMs }]) => nowMs - askedAtMs < this.mostMs);
    const same = believed.find(([cost]) => cost === question.cost)?.[1];
    if (same) return countedDown(same, nowMs);
    if (believed.length > 0) return "less";
    if (standing.length === 0) return undefined;
    return this.#isAsked(name) ? "soon" : "lapsed";
  }

  /** Forgets what was denied of a question, at any cost, and what is on its way here about it. */
  forget(question: Question): void {
    const name = nameOf(question);
    this.#questions.delete(name);
    this.#makeVoid((question) => question === name);
  }

  /** Forgets what was denied to whoever is counted by a key. */
  forgetKey(key: string): void {
    const isAbout = (question: string) => question.includes(`\n${key}\n`);
    for (const question of this.#questions.keys()) if (isAbout(question)) this.#questions.delete(question);
    this.#makeVoid(isAbout);
  }

  forgetAll(): void {
    this.#questions.clear();
    this.#makeVoid(() => true);
  }

  #makeVoid(isOne: (question: string) => boolean): void {
    for (const asking of this.#underWay) if (isOne(asking.question)) asking.isVoid = true;
  }

  #isAsked(question: string): boolean {
    for (const asking of this.#underWay) if (asking.question === question) return true;
    return false;
  }

  #learn({ question, askedAtMs }: Asking, cost: number, answer: Answer): void {
    const costs = this.#questions.get(question) ?? new Map<number, Denial>();
    if (costs.size >= MOST_COSTS) costs.clear();
    costs.set(cost, { answer, askedAtMs, answeredAtMs: this.now() });
    this.#questions.delete(question);
    this.#questions.set(question, costs);
    if (this.#questions.size > MOST_QUESTIONS) this.#forgetOldest();
  }

  #forgetOldest(): void {
    const [oldest] = this.#questions.keys();
    if (oldest !== undefined) this.#questions.delete(oldest);
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

/** What was waited for already is waited for no more. What is used is told as it was, and so it has not all left yet. */
function countedDown({ answer, answeredAtMs }: Denial, nowMs: number): Answer {
  const sinceMs = nowMs - answeredAtMs;
  const left = (ms: number) => (ms > 0 ? Math.max(1, ms - sinceMs) : 0);
  const standing = ({ used, fitsInMs, freesInMs, resetsInMs }: Standing): Standing => ({
    used,
    fitsInMs: Math.max(0, fitsInMs - sinceMs),
    freesInMs: left(freesInMs),
    resetsInMs: left(resetsInMs),
  });
  const override = ({ endsInMs, ownFitsInMs, ...same }: Overridden): Overridden => ({
    ...same,
    endsInMs: endsInMs - sinceMs,
    ownFitsInMs: Math.max(0, ownFitsInMs - sinceMs),
  });
  const { standings, overrides } = answer;
  return {
    ...answer,
    standings: standings.map((limits) => limits.map(standing)),
    ...(overrides && { overrides: overrides.map((one) => one && override(one)) }),
  };
}
