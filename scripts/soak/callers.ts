import { setTimeout as sleep } from "node:timers/promises";
import type { Chance } from "../../tools/chance";
import type { ServiceProcess } from "../../tools/service-process";
import { SessionCaller } from "../../tools/session";
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
/** Sessions that all callers share. Each attempt goes over one of them or over HTTP, so a retry may take the other way. */
const SESSIONS = 4;
const SHARE_OF_SESSIONS = 0.5;
/** Some ten minutes of retries, far longer than a fault lasts. */
export const MOST_TRIES = 10_000;

interface Decision {
  readonly replayed: boolean;
}

/** A request of a batch. */
interface Request {
  readonly op: "consume" | "check" | "settle";
  readonly policy: string;
  readonly subject: { readonly user: string; readonly ip: string };
  readonly cost?: number;
  readonly id?: string;
  readonly idempotency_key?: string;
  readonly attempt?: number;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
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
  readonly counts = { answered: 0, overSessions: 0, admitted: 0, denied: 0, retries: 0, wrong: 0 };
  readonly wrong: string[] = [];
  readonly #sessions = Array.from({ length: SESSIONS }, () => new SessionCaller(() => this.service?.url, TOKEN));
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

  get sessionsOpened(): number {
    return this.#sessions.reduce((sum, { opened }) => sum + opened, 0);
  }

  /** Ends the connections of all sessions, with messages in flight. */
  dropSessions(): void {
    for (const session of this.#sessions) session.drop();
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
      const isKnownNew = isFirst && attempt === 1;
      const [answer] = await this.#ask([consumeOf(request, isKnownNew)]);
      if (answer) this.#noteAnswer(request, answer);
      if (answer?.status === 200 || answer?.status === 429) return;
      await this.#again();
    }
    throw new Error(`no answer after ${MOST_TRIES} tries`);
  }

  #noteAnswer(request: TrackedRequest, { status, body }: Answer): void {
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
      const [answer] = await this.#ask([
        { op: "settle", policy: "soak", subject: subjectOf(request), id: request.id, cost },
      ]);
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
      const results = await this.#ask(requests.map((request) => consumeOf(request, false)));
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
    const subject = { user: `p${this.#period}-${i}`, ip: "10.0.0.1" };
    await this.#ask([{ op: "check", policy: "soak", subject }]);
  }

  /** One user sends many requests at once. Most are denied. */
  async #flood(): Promise<void> {
    await Promise.all(Array.from({ length: FLOOD_REQUESTS }, () => this.#consume(this.#newRequest("f", 1, 1))));
  }

  /** Asks over a session or over HTTP. Resolves to the answers in order, to none if they are lost. */
  async #ask(requests: readonly Request[]): Promise<readonly Answer[]> {
    const session = this.chance.is(SHARE_OF_SESSIONS) ? this.chance.of(this.#sessions) : undefined;
    const answers = (session ? await session.ask(requests) : await this.#askOverHttp(requests)) ?? [];
    if (answers.length > 0) this.counts.answered++;
    if (answers.length > 0 && session) this.counts.overSessions++;
    for (const [i, { status }] of answers.entries())
      if (![200, 404, 429].includes(status) && !(status === 503 && this.isFaulty))
        this.#blame(`${requests[i]?.op} ${session ? "over a session" : "over HTTP"} answered with ${status}`);
    return answers;
  }

  /** One request by its own call, several as a batch. */
  async #askOverHttp(requests: readonly Request[]): Promise<readonly Answer[] | undefined> {
    const [first] = requests;
    if (!first || requests.length > 1) {
      const answer = await this.#post("/v1/batch", { requests });
      if (answer?.status !== 200) return answer && requests.map(() => answer);
      return (answer.body as { results: readonly Answer[] }).results;
    }
    const { op, idempotency_key: key, attempt, ...body } = first;
    const answer = await this.#post(`/v1/${op}`, body, {
      ...(key !== undefined && { "Idempotency-Key": key }),
      ...(attempt !== undefined && { "Idempotency-Attempt": String(attempt) }),
    });
    return answer && [answer];
  }

  /** Resolves to the answer, undefined if there was none. */
  async #post(path: string, body: unknown, more: Record<string, string> = {}): Promise<Answer | undefined> {
    try {
      const init = { method: "POST", headers: { ...HEADERS, ...more }, body: JSON.stringify(body) };
      const response = await this.service?.fetch(path, { ...init, signal: AbortSignal.timeout(LONGEST_MS) });
      return response && { status: response.status, body: await response.json() };
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

/** @param isKnownNew the id is new, and sent for the first time */
function consumeOf(request: TrackedRequest, isKnownNew: boolean): Request {
  return {
    op: "consume",
    policy: "soak",
    subject: subjectOf(request),
    cost: request.cost,
    idempotency_key: request.id,
    ...(isKnownNew && { attempt: 1 }),
  };
}

function subjectOf({ user, ip }: TrackedRequest): { user: string; ip: string } {
  return { user, ip };
}
