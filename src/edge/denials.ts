import type { Standing } from "../core/log";
import type { Answer, Question } from "../object/protocol";

/** Subjects that are remembered at most, those that were denied last, and costs of each: a dozen megabytes in all. */
const MOST_SUBJECTS = 5_000;
const MOST_COSTS = 8;

/** A denial, and when it was asked for and answered: the object's own time of it was somewhere between. */
interface Denial {
  readonly answer: Answer;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
}

interface Recalled {
  /** Undefined when a lower cost was denied: so is this one, and for how long nobody knows. */
  readonly answer: Answer | undefined;
}

/**
 * What objects have denied lately, so that a flood is answered here and not by them. A denial holds until enough has
 * left the window, and it is believed for `mostMs` at most, since a settle or a reset elsewhere may make room before.
 * It is remembered for the whole subject: what one of its counters had was perhaps about to be put back, and nobody else
 * shall be denied for that. Nothing here ever admits.
 *
 * It lives as long as the configuration that it was decided by. Times are those of this isolate, so only durations of
 * the object's answer are used: a denial ends by when it was asked for, waits are told from when it was answered, and so
 * neither is wrong by more than the way there and back, to the side that costs nobody a request.
 */
export class Denials {
  readonly #subjects = new Map<string, Map<number, Denial>>();

  /** `mostMs` of 0 remembers nothing. */
  constructor(
    private readonly mostMs: number,
    private readonly now: () => number,
  ) {}

  /** The time to be handed to `learn` with the answer to a question that is sent now. */
  get nowMs(): number {
    return this.now();
  }

  /** Remembers an answer that denies. */
  learn(question: Question, answer: Answer, askedAtMs: number): void {
    if (answer.allowed || this.mostMs === 0) return;
    const name = nameOf(question);
    const costs = this.#subjects.get(name) ?? new Map<number, Denial>();
    if (costs.size >= MOST_COSTS) costs.clear();
    costs.set(question.cost, { answer, askedAtMs, answeredAtMs: this.now() });
    this.#subjects.delete(name);
    this.#subjects.set(name, costs);
    if (this.#subjects.size > MOST_SUBJECTS) this.#forgetOldest();
  }

  /** The denial of a question that is certain to be denied; undefined when its objects must be asked. */
  recall(question: Question): Recalled | undefined {
    if (this.#subjects.size === 0) return undefined;
    const costs = this.#subjects.get(nameOf(question));
    if (!costs) return undefined;
    const nowMs = this.now();
    const holding = [...costs].filter(([cost, denial]) => cost <= question.cost && this.#holds(denial, nowMs));
    if (holding.length === 0) return undefined;
    const same = holding.find(([cost]) => cost === question.cost)?.[1];
    return { answer: same && countedDown(same, nowMs) };
  }

  /** Forgets what was denied to the subject of a question. */
  forget(question: Question): void {
    this.#subjects.delete(nameOf(question));
  }

  /** Forgets what was denied to whoever is counted by a key. */
  forgetKey(key: string): void {
    for (const name of this.#subjects.keys()) if (name.includes(`\n${key}\n`)) this.#subjects.delete(name);
  }

  forgetAll(): void {
    this.#subjects.clear();
  }

  #holds({ answer, askedAtMs }: Denial, nowMs: number): boolean {
    const sinceMs = nowMs - askedAtMs;
    // A clock that went back makes what was learnt before it none the fresher.
    if (sinceMs < 0 || sinceMs >= this.mostMs) return false;
    return answer.standings.some((limits) => limits.some(({ fitsInMs }) => fitsInMs > sinceMs));
  }

  #forgetOldest(): void {
    const [oldest] = this.#subjects.keys();
    if (oldest !== undefined) this.#subjects.delete(oldest);
  }
}

/** Keys have no line breaks, so that no two questions share a name. Callers may name limits themselves. */
function nameOf({ policy, counters }: Question): string {
  let name = policy;
  for (const { layer, key, limits } of counters) {
    name += `\n${key}\n${layer}`;
    for (const { max, windowMs } of limits) name += ` ${max}/${windowMs}`;
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
  return { ...answer, standings: answer.standings.map((limits) => limits.map(standing)) };
}
