import { setTimeout as sleep } from "node:timers/promises";
import type { Chance } from "../../tools/chance";
import type { ServiceProcess } from "../../tools/service-process";
import type { Wish } from "./observations";

export const TOKEN = "soak-token";
export const HEADERS = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
export const LIMITS = { caller: ["10 per 10 seconds", "900 per day"], ip: ["60 per 10 seconds", "900000 per day"] };

/** Users of one period: some whose costs nobody changes, some who settle, one who floods. */
const PLAIN = 12;
const SETTLING = 6;
const FLOOD = 60;
const MANY_KEYS = 200_000;
/** Of those many keys, one in so many is remembered and looked for at the end. */
const ONE_IN_REMEMBERED = 50;
const LONGEST_MS = 10_000;

interface Decision {
  readonly replayed: boolean;
}

/** Callers who send everything with an idempotency key, and again until they know how it ended. */
export class Callers {
  /** While it is started again there is none. */
  service: ServiceProcess | undefined;
  isOver = false;
  /** While a fault is on, a 503 is the right answer. */
  isFaulty = false;
  wishes: Wish[] = [];
  readonly sampled: Wish[] = [];
  readonly counts = { answered: 0, admitted: 0, denied: 0, retries: 0, wrong: 0 };
  readonly wrong: string[] = [];
  #period = 0;
  #ids = 0;

  constructor(private readonly chance: Chance) {}

  /** Hands over all that was asked by the users of this period; from now on there are others. */
  nextPeriod(): Wish[] {
    const { wishes } = this;
    this.wishes = [];
    this.#period++;
    return wishes;
  }

  /** Sends one thing after the other. */
  async run(): Promise<void> {
    while (!this.isOver) {
      await this.chance.of([
        () => this.#consume(this.#wish("p", PLAIN)),
        () => this.#consume(this.#wish("p", PLAIN)),
        () => this.#batch(),
        () => this.#consumeAndSettle(),
        () => this.#consumeOfMany(),
        () => this.#check(),
        () => this.#sameAtOnce(),
        () => (this.chance.is(0.05) ? this.#flood() : this.#consumeOfMany()),
      ])();
    }
  }

  #wish(kind: string, users: number, cost = 1 + this.chance.below(2)): Wish {
    const i = this.chance.below(users);
    const wish: Wish = {
      id: `w${this.#ids++}`,
      user: `${kind}${this.#period}-${i}`,
      ip: `10.${kind === "s" ? 1 : 0}.${this.#period % 256}.${i % 4}`,
      cost,
      firsts: 0,
    };
    this.wishes.push(wish);
    return wish;
  }

  async #consume(wish: Wish, isFirst = true): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const more = isFirst && attempt === 1 ? { "Idempotency-Attempt": "1" } : {};
      const body = { policy: "soak", subject: subjectOf(wish), cost: wish.cost };
      const answer = await this.#post("/v1/consume", body, { "Idempotency-Key": wish.id, ...more });
      if (answer) this.#hear(wish, answer);
      if (answer?.status === 200 || answer?.status === 429) return;
      await this.#again();
    }
  }

  #hear(wish: Wish, { status, body }: { status: number; body: unknown }): void {
    if (status === 200) {
      if (wish.outcome !== "admitted") this.counts.admitted++;
      wish.outcome = "admitted";
      if (!(body as Decision).replayed) wish.firsts++;
    }
    if (status === 429) {
      this.counts.denied++;
      wish.outcome ??= "denied";
    }
  }

  /** The same id several times at once: as callers do who are impatient. */
  async #sameAtOnce(): Promise<void> {
    const wish = this.#wish("p", PLAIN);
    await Promise.all(Array.from({ length: 3 }, () => this.#consume(wish, false)));
  }

  async #consumeAndSettle(): Promise<void> {
    const wish = this.#wish("s", SETTLING, 3);
    await this.#consume(wish);
    if (wish.outcome !== "admitted") return;
    const cost = this.chance.below(6);
    wish.settled = Number.NaN;
    for (;;) {
      const answer = await this.#post("/v1/settle", { policy: "soak", subject: subjectOf(wish), id: wish.id, cost });
      if (answer?.status === 200) wish.settled = cost;
      if (answer?.status === 404) this.#blame(`settling ${wish.id}, which was acknowledged, is a 404`);
      if (answer?.status === 200 || answer?.status === 404) return;
      await this.#again();
    }
  }

  async #batch(): Promise<void> {
    const wishes = Array.from({ length: 1 + this.chance.below(5) }, () => this.#wish("p", PLAIN));
    for (;;) {
      const requests = wishes.map((wish) => ({
        op: "consume",
        policy: "soak",
        subject: subjectOf(wish),
        cost: wish.cost,
        idempotency_key: wish.id,
      }));
      const answer = await this.#post("/v1/batch", { requests });
      const { results = [] } = (answer?.body ?? {}) as { results?: { status: number; body: unknown }[] };
      for (const [i, result] of results.entries()) this.#hear(wishes[i] as Wish, result);
      if (results.length > 0 && results.every(({ status }) => status === 200 || status === 429)) return;
      await this.#again();
    }
  }

  /** So many keys that their accounts do not fit in memory. */
  async #consumeOfMany(): Promise<void> {
    const wish: Wish = {
      id: `m${this.#ids++}`,
      user: `many-${this.chance.below(MANY_KEYS)}`,
      ip: `10.${64 + this.chance.below(64)}.${this.chance.below(256)}.${this.chance.below(256)}`,
      cost: 1,
      firsts: 0,
    };
    await this.#consume(wish);
    if (wish.outcome === "admitted" && this.chance.is(1 / ONE_IN_REMEMBERED)) this.sampled.push(wish);
  }

  async #check(): Promise<void> {
    const i = this.chance.below(PLAIN);
    await this.#post("/v1/check", { policy: "soak", subject: { user: `p${this.#period}-${i}`, ip: "10.0.0.1" } });
  }

  /** One user who sends all at once what is mostly denied. */
  async #flood(): Promise<void> {
    await Promise.all(Array.from({ length: FLOOD }, () => this.#consume(this.#wish("f", 1, 1))));
  }

  /** An answer, undefined when there was none; one that nobody should be given is written down. */
  async #post(
    path: string,
    body: unknown,
    more: Record<string, string> = {},
  ): Promise<{ status: number; body: unknown } | undefined> {
    try {
      const init = { method: "POST", headers: { ...HEADERS, ...more }, body: JSON.stringify(body) };
      const response = await this.service?.fetch(path, { ...init, signal: AbortSignal.timeout(LONGEST_MS) });
      if (!response) return undefined;
      const answer = { status: response.status, body: await response.json() };
      this.counts.answered++;
      if (![200, 404, 429].includes(answer.status) && !(answer.status === 503 && this.isFaulty))
        this.#blame(`${path} was answered with ${answer.status}`);
      return answer;
    } catch {
      // Nobody is there, or the answer is lost: the id makes it safe to ask again.
      return undefined;
    }
  }

  async #again(): Promise<void> {
    this.counts.retries++;
    await sleep(20 + this.chance.next() * 80);
  }

  #blame(what: string): void {
    this.counts.wrong++;
    if (this.wrong.length < 20) this.wrong.push(what);
  }
}

function subjectOf({ user, ip }: Wish): { user: string; ip: string } {
  return { user, ip };
}
