import { setTimeout as sleep } from "node:timers/promises";
import type { Chance } from "../../tools/chance";
import type { ServiceProcess } from "../../tools/service-process";
import type { TrackedRequest } from "./judge";

export const TOKEN = "soak-token";
export const HEADERS = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
export const LIMITS = { caller: ["10 per 10 seconds", "900 per day"], ip: ["60 per 10 seconds", "900000 per day"] };

/** Users of one period: some whose costs are never changed, some who settle. One more user floods. */
const PLAIN_USERS = 12;
const SETTLING_USERS = 6;
const FLOOD_REQUESTS = 60;
const MANY_KEYS = 200_000;
/** One in so many requests of the many keys is sampled, and looked for at the end. */
const ONE_IN_SAMPLED = 50;
const LONGEST_MS = 10_000;
/** Some ten minutes of retries, far longer than a fault lasts. */
export const MOST_TRIES = 10_000;

interface Decision {
  readonly replayed: boolean;
}

/** Callers who send each request with an idempotency key, and retry until they know its outcome. */
export class Callers {
  /** Undefined while the service restarts. */
  service: ServiceProcess | undefined;
  isOver = false;
  /** During a fault a 503 is a right answer. */
  isFaulty = false;
  requests: TrackedRequest[] = [];
  readonly sampled: TrackedRequest[] = [];
  readonly counts = { answered: 0, admitted: 0, denied: 0, retries: 0, wrong: 0 };
  readonly wrong: string[] = [];
  #period = 0;
  #ids = 0;

  constructor(private readonly chance: Chance) {}

  /** Returns all requests of this period. From now on other users send. */
  nextPeriod(): TrackedRequest[] {
    const { requests } = this;
    this.requests = [];
    this.#period++;
    return requests;
  }

  /** Sends one request after the other until it is over. */
  async run(): Promise<void> {
    while (!this.isOver) {
      await this.chance.of([
        () => this.#consume(this.#newRequest("p", PLAIN_USERS)),
        () => this.#consume(this.#newRequest("p", PLAIN_USERS)),
        () => this.#batch(),
        () => this.#consumeAndSettle(),
        () => this.#consumeOfMany(),
        () => this.#check(),
        () => this.#sameAtOnce(),
        () => (this.chance.is(0.05) ? this.#flood() : this.#consumeOfMany()),
      ])();
    }
  }

  #newRequest(kind: string, users: number, cost = 1 + this.chance.below(2)): TrackedRequest {
    const i = this.chance.below(users);
    const request: TrackedRequest = {
      id: `w${this.#ids++}`,
      user: `${kind}${this.#period}-${i}`,
      ip: `10.${kind === "s" ? 1 : 0}.${this.#period % 256}.${i % 4}`,
      cost,
      firstAnswers: 0,
    };
    this.requests.push(request);
    return request;
  }

  async #consume(request: TrackedRequest, isFirst = true): Promise<void> {
    for (let attempt = 1; attempt <= MOST_TRIES; attempt++) {
      const more = isFirst && attempt === 1 ? { "Idempotency-Attempt": "1" } : {};
      const body = { policy: "soak", subject: subjectOf(request), cost: request.cost };
      const answer = await this.#post("/v1/consume", body, { "Idempotency-Key": request.id, ...more });
      if (answer) this.#noteAnswer(request, answer);
      if (answer?.status === 200 || answer?.status === 429) return;
      await this.#again();
    }
    throw new Error(`no answer after ${MOST_TRIES} tries`);
  }

  #noteAnswer(request: TrackedRequest, { status, body }: { status: number; body: unknown }): void {
    if (status === 200) {
      if (request.outcome !== "admitted") this.counts.admitted++;
      request.outcome = "admitted";
      if (!(body as Decision).replayed) request.firstAnswers++;
    }
    if (status === 429) {
      this.counts.denied++;
      request.outcome ??= "denied";
    }
  }

  /** Sends the same id several times at once, as an impatient caller does. */
  async #sameAtOnce(): Promise<void> {
    const request = this.#newRequest("p", PLAIN_USERS);
    await Promise.all(Array.from({ length: 3 }, () => this.#consume(request, false)));
  }

  async #consumeAndSettle(): Promise<void> {
    const request = this.#newRequest("s", SETTLING_USERS, 3);
    await this.#consume(request);
    if (request.outcome !== "admitted") return;
    const cost = this.chance.below(6);
    request.settledCost = Number.NaN;
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const answer = await this.#post("/v1/settle", {
        policy: "soak",
        subject: subjectOf(request),
        id: request.id,
        cost,
      });
      if (answer?.status === 200) request.settledCost = cost;
      if (answer?.status === 404) this.#blame(`a settle of ${request.id}, which was acknowledged, answered with 404`);
      if (answer?.status === 200 || answer?.status === 404) return;
      await this.#again();
    }
    throw new Error(`no answer after ${MOST_TRIES} tries`);
  }

  async #batch(): Promise<void> {
    const requests = Array.from({ length: 1 + this.chance.below(5) }, () => this.#newRequest("p", PLAIN_USERS));
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const calls = requests.map((request) => ({
        op: "consume",
        policy: "soak",
        subject: subjectOf(request),
        cost: request.cost,
        idempotency_key: request.id,
      }));
      const answer = await this.#post("/v1/batch", { requests: calls });
      const { results = [] } = (answer?.body ?? {}) as { results?: { status: number; body: unknown }[] };
      for (const [i, result] of results.entries()) this.#noteAnswer(requests[i] as TrackedRequest, result);
      if (results.length > 0 && results.every(({ status }) => status === 200 || status === 429)) return;
      await this.#again();
    }
    throw new Error(`no answer after ${MOST_TRIES} tries`);
  }

  /** Uses so many keys that their accounts do not fit in memory. */
  async #consumeOfMany(): Promise<void> {
    const request: TrackedRequest = {
      id: `m${this.#ids++}`,
      user: `many-${this.chance.below(MANY_KEYS)}`,
      ip: `10.${64 + this.chance.below(64)}.${this.chance.below(256)}.${this.chance.below(256)}`,
      cost: 1,
      firstAnswers: 0,
    };
    await this.#consume(request);
    if (request.outcome === "admitted" && this.chance.is(1 / ONE_IN_SAMPLED)) this.sampled.push(request);
  }

  async #check(): Promise<void> {
    const i = this.chance.below(PLAIN_USERS);
    await this.#post("/v1/check", { policy: "soak", subject: { user: `p${this.#period}-${i}`, ip: "10.0.0.1" } });
  }

  /** One user sends many requests at once. Most are denied. */
  async #flood(): Promise<void> {
    await Promise.all(Array.from({ length: FLOOD_REQUESTS }, () => this.#consume(this.#newRequest("f", 1, 1))));
  }

  /** Resolves with the answer, undefined if there was none. Notes an unexpected status. */
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
        this.#blame(`${path} answered with ${answer.status}`);
      return answer;
    } catch {
      // The service is down, or the answer is lost. The id makes a retry safe.
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

function subjectOf({ user, ip }: TrackedRequest): { user: string; ip: string } {
  return { user, ip };
}
