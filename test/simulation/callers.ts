import type { Config } from "../../src/config/config";
import { liveLimits } from "../../src/limiter/decision";
import type { Limiter } from "../../src/limiter/limiter";
import { readInlineCheck, readInlineConsume, readInlineRelease, readInlineSettle } from "../../src/request/inline";
import { readCheck, readConsume, readRelease, readSettle, type ValidRequest } from "../../src/request/read";
import { Refusal } from "../../src/request/refusal";
import type { Chance } from "../../tools/chance";
import type { Attempt, Ending } from "./admissions";
import { groupBy } from "./groups";
import type { Network } from "./network";
import { nameOf, type Place, type Told } from "./record";
import type { Scheduler } from "./scheduler";
import type { Isolate } from "./system";

export type Range = readonly [least: number, most: number];

/** What callers do. Shares are from 0 to 1. */
export interface Habits {
  /** How many requests each of them has. */
  readonly requests: Range;
  /** The share of requests that are batches, and how many calls a batch has. */
  readonly batches: number;
  readonly batchSize: Range;
  /** How often an id comes back, about when it is forgotten. */
  readonly returns: number;
  /** How many of a caller's ids come back at most. */
  readonly returning: number;
  /** The share of requests that name limits of their own, and those limits. */
  readonly inline: number;
  readonly inlineLimits: readonly (readonly string[])[];
  /** How often a request is followed by many more like it at once, and by how many. */
  readonly bursts: number;
  readonly burstSize: Range;
  /** How many users there are. */
  readonly users: number;
  /** A cost is from 1 to this. */
  readonly mostCost: number;
  /** How often they rest for long between requests, and how long at most. */
  readonly rests: number;
  readonly restMs: number;
}

interface Subject {
  readonly user?: string;
  readonly ip: string;
}

/** What a caller consumes under one id, however often it has to ask. */
interface Wish {
  readonly id: string;
  /** What it goes by: a subject that a policy counts, or limits that it names. */
  readonly whose: { readonly policy: string; readonly subject: Subject } | { readonly layers: readonly object[] };
  readonly cost: number;
  /** What it is settled at, if it is: one cost each, since of two settles the last to arrive holds. */
  readonly settledCost: number;
}

/** A call, of which a caller may send many at once. */
interface Ask {
  readonly op: Told["op"];
  readonly wish: Wish;
  readonly asked: Told["asked"];
}

/** Callers, each with requests of its own: one by one, in many attempts at once, and in batches. */
export class Callers {
  readonly told: Told[] = [];
  readonly attempts: Attempt[] = [];

  constructor(
    private readonly config: Config,
    private readonly isolates: readonly Isolate[],
    private readonly network: Network,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    private readonly habits: Habits,
  ) {}

  async run(name: number, requests: number): Promise<void> {
    const { chance, scheduler, habits } = this;
    const admitted: Wish[] = [];
    const known: Wish[] = [];
    for (let request = 0; request < requests; request++) {
      const id = `${name}-${request}`;
      const back = chance.is(habits.returns)
        ? known[chance.below(Math.min(habits.returning, known.length))]
        : undefined;
      if (back) await this.#comeBack(back, `${id}-beside`);
      else {
        await scheduler.sleep(chance.below(chance.is(habits.rests) ? habits.restMs : 400));
        if (chance.is(habits.batches)) known.push(...(await this.#batch(id, admitted)));
        else known.push(await this.#alone(this.#wish(id), admitted));
      }
      const last = known.at(-1);
      if (last && chance.is(habits.bursts)) await this.#burst(last, id);
    }
  }

  /** The same ids round after round, each time after their window, among many that are used once. */
  async runJobs(rounds: number): Promise<void> {
    const { chance, scheduler } = this;
    const jobs = Array.from({ length: 14 }, (_, i) => this.#job(`job-${i}`));
    for (let round = 0; round < rounds; round++) {
      const wishes = Array.from({ length: 100 }, (_, i) => jobs[i] ?? this.#job(`${round}-${i}`));
      for (let i = wishes.length; i > 1; ) wishes.push(...wishes.splice(chance.below(i--), 1));
      const again = chance.of([(job: Wish) => this.#consume(job, 2), (job: Wish) => this.#settle(job)]);
      await this.#sendBatch(
        `${round}`,
        wishes.map((wish) => this.#consume(wish, 2)),
      );
      await this.#sendBatch(`${round} again`, jobs.map(again));
      await scheduler.sleep(1_500 + chance.below(10_000));
    }
  }

  #job(id: string): Wish {
    return { id, whose: { policy: "small", subject: { user: "u0", ip: "10.0.0.0" } }, cost: 1, settledCost: 0 };
  }

  async #alone(wish: Wish, admitted: Wish[]): Promise<Wish> {
    const { chance, scheduler } = this;
    if (chance.is(0.15)) await this.#send(this.#check(wish));
    const attempts = 1 + chance.below(3);
    const underWay: Promise<boolean>[] = [];
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const one = this.#send(this.#consume(wish, attempt));
      underWay.push(one);
      // Some wait for the answer, some hang up and try again, some never wait at all.
      if (chance.is(0.5)) await Promise.race([one, scheduler.sleep(chance.below(100))]);
      else if (chance.is(0.7) && (await one)) break;
    }
    await Promise.all(underWay);
    if (!this.#isAdmitted(wish)) return wish;
    if (chance.is(0.5)) {
      admitted.push(wish);
      return wish;
    }
    if (chance.is(0.5)) await this.#repeat(() => this.#settle(wish));
    if (chance.is(0.7)) await this.#repeat(() => this.#release(wish));
    // One that was over long ago, in the eyes of its caller.
    if (chance.is(0.2)) await this.#send(this.#consume(wish, attempts + 1));
    return wish;
  }

  /**
   * The same id again: about when it is forgotten, or before. Somebody who shares a key may ask at once, or when what the
   * id was charged first has left its window.
   */
  async #comeBack(wish: Wish, beside: string): Promise<void> {
    const { chance, scheduler, habits } = this;
    const calls = this.attempts.filter(({ decision }) => decision === decisionOf(wish));
    const call = chance.of([calls.at(-1), calls[0]]);
    const windows = this.#check(wish).asked.policy.layers.flatMap(({ limits }) =>
      limits.map(({ windowMs }) => windowMs),
    );
    const windowMs = Math.max(...windows);
    const leavesMs = (calls[0]?.askedAtMs ?? scheduler.nowMs) + chance.of(windows);
    const edgeMs = (chance.is(0.8) ? call?.askedAtMs : call?.endedAtMs) ?? scheduler.nowMs;
    const nearMs = chance.is(0.7) ? chance.below(30) - 15 : chance.below(chance.of([600, 3_000]));
    const isEarly = chance.is(call?.ending === "denied" ? 0.6 : 0.15);
    await scheduler.sleep(isEarly ? chance.below(windowMs) : edgeMs + windowMs + nearMs - scheduler.nowMs);
    // Not every caller remembers what it has used an id for.
    const again = chance.is(0.05) ? { ...wish, cost: (wish.cost % habits.mostCost) + 1 } : wish;
    await this.#send(this.#consume(again, 2));
    if (chance.is(0.8)) {
      await scheduler.sleep(chance.of([0, 0, chance.below(30), leavesMs + chance.below(60) - scheduler.nowMs]));
      await this.#send(this.#consume(this.#neighbour(wish, beside), 1));
    }
    if (chance.is(0.2)) await this.#repeat(() => chance.of([() => this.#settle(wish), () => this.#release(wish)])());
  }

  /** Another request by one of its keys. */
  #neighbour({ whose, ...wish }: Wish, id: string): Wish {
    if ("layers" in whose) return { ...wish, whose, id };
    const other = this.#subject();
    const subject = this.chance.is(0.5) ? { ...other, ip: whose.subject.ip } : { ...whose.subject, ip: other.ip };
    return { ...wish, whose: { ...whose, subject }, id };
  }

  /** Many requests at once that are counted as the first is. */
  async #burst(like: Wish, name: string): Promise<void> {
    const { chance, habits } = this;
    const size = within(habits.burstSize, chance);
    const wishes = Array.from({ length: size }, (_, i) => ({ ...like, id: `${name}-like-${i}`, cost: 1 }));
    if ("layers" in like.whose) await Promise.all(wishes.map((wish) => this.#send(this.#consume(wish, 2))));
    else
      await this.#sendBatch(
        `${name} burst`,
        wishes.map((wish) => this.#consume(wish, 2)),
      );
  }

  /** Until it is acknowledged or tried often enough, and sometimes once more. */
  async #repeat(ask: () => Ask): Promise<void> {
    for (let tries = 0; tries < 6; tries++) if ((await this.#send(ask())) && this.chance.is(0.7)) return;
  }

  /** A batch, which may be sent again: as a whole, or what was not answered. */
  async #batch(name: string, admitted: Wish[]): Promise<Wish[]> {
    const { chance } = this;
    const wishes: Wish[] = [];
    const asks = Array.from({ length: within(this.habits.batchSize, chance) }, (_, i) => {
      const earlier = admitted[chance.below(admitted.length)];
      if (earlier && chance.is(0.2)) return () => this.#settle(earlier);
      if (earlier && chance.is(0.3)) return () => this.#release(earlier);
      if (chance.is(0.15)) return () => this.#check(this.#wish("", 0));
      const known = wishes[chance.below(wishes.length)];
      if (known && chance.is(0.1)) return () => this.#settle(known);
      const isRepeated = known !== undefined && chance.is(0.15);
      const wish = isRepeated ? known : this.#wish(`${name}-${i}`, 0);
      if (!isRepeated) wishes.push(wish);
      return (attempt: number) => this.#consume(wish, isRepeated ? attempt + 1 : attempt);
    });
    for (let attempt = 1, left = asks; attempt <= 3 && left.length > 0; attempt++) {
      const answered = await this.#sendBatch(
        `${name} ${attempt}`,
        left.map((ask) => ask(attempt)),
        attempt === 1,
      );
      if (chance.is(0.7)) left = left.filter((_, i) => !answered[i]);
    }
    admitted.push(...wishes.filter((wish) => this.#isAdmitted(wish)));
    return wishes;
  }

  /** Which of them were answered. */
  #sendBatch(batch: string, asks: readonly Ask[], isFirst = true): Promise<boolean[]> {
    const { limiter, number } = this.chance.of(this.isolates);
    const limiterOf = limiter.forBatch();
    const named = groupBy(asks, ({ op, asked }) => `${op} ${nameOf(asked)}`);
    const isOnly = ({ op, asked }: Ask) => named.get(`${op} ${nameOf(asked)}`)?.length === 1;
    return Promise.all(
      asks.map((ask, index) =>
        this.#ask(ask, limiterOf(index), number, { batch, index, isFirst: isFirst && isOnly(ask) }),
      ),
    );
  }

  #send(ask: Ask): Promise<boolean> {
    const { limiter, number } = this.chance.of(this.isolates);
    return this.#ask(ask, limiter, number);
  }

  /** True if the caller knows how it ended. */
  async #ask(ask: Ask, limiter: Limiter, isolate: number, place?: Place): Promise<boolean> {
    const { scheduler, network } = this;
    const { op, asked } = ask;
    const askedAtMs = scheduler.nowMs;
    const before = network.deeds.length;
    try {
      const decided =
        op === "check"
          ? await limiter.check(asked)
          : op === "settle" || op === "release"
            ? { allowed: true, replayed: false, ...(await limiter[op](asked)) }
            : await limiter.consume({ ...asked, isNew: asked.isNew ?? false, aliases: [] }, () => {});
      const [toldAtMs, after] = [scheduler.nowMs, network.deeds.length];
      this.told.push({ op, isolate, asked, decided, askedAtMs, toldAtMs, before, after, ...(place && { place }) });
      this.#note(ask, askedAtMs, endingOf(op, decided), decided);
      return true;
    } catch (error) {
      // An event is unknown once its window has passed, and an id is free for another cost.
      const ending = error instanceof Refusal ? ENDINGS.get(error.kind) : undefined;
      if (!ending) throw error;
      this.#note(ask, askedAtMs, ending);
      return ending === "reused id";
    }
  }

  #note({ op, wish, asked }: Ask, askedAtMs: number, ending: Ending, decided?: Told["decided"]): void {
    if (op === "check") return;
    const { cost, counters: counted, policy, shadow } = asked;
    const named = { op, policy: policy.name, decision: decisionOf(wish), hasShadow: shadow.length > 0 };
    const said = (decided ? liveLimits(decided) : []).flatMap(({ layer, key, limit, standing }) =>
      limit.kind ? [] : { layer, key, windowMs: limit.windowMs, resetsInMs: standing.resetsInMs },
    );
    this.attempts.push({ ...named, cost, counted, askedAtMs, endedAtMs: this.scheduler.nowMs, ending, said });
  }

  #wish(id: string, inline = this.habits.inline): Wish {
    const { chance, habits } = this;
    const costs = { cost: 1 + chance.below(habits.mostCost), settledCost: chance.below(6) };
    if (chance.is(inline)) {
      const which = chance.below(habits.inlineLimits.length);
      const keys = chance.of([["k0"], ["k0"], ["k1"], ["k0", "k1"]]);
      const layers = keys.map((key, i) => ({ name: `login${i}`, key, limits: habits.inlineLimits[which] }));
      return { id, whose: { layers }, ...costs };
    }
    return { id, whose: { policy: "small", subject: this.#subject() }, ...costs };
  }

  #subject(): Subject {
    const { chance, habits } = this;
    const ip = `10.0.0.${chance.below(2)}`;
    return chance.is(0.6) ? { user: `u${chance.below(habits.users)}`, ip } : { ip };
  }

  #check(wish: Wish): Ask {
    const { whose, cost } = wish;
    const asked: ValidRequest =
      "layers" in whose ? readInlineCheck({ ...whose, cost }) : readCheck({ ...whose, cost }, this.config);
    return { op: "check", wish, asked: { ...asked, id: "" } };
  }

  /** Not every caller says which attempt it is. */
  #consume(wish: Wish, attempt: number): Ask {
    const { id, whose, cost } = wish;
    const known = { key: id, ...(this.chance.is(0.7) && { attempt }) };
    const asked =
      "layers" in whose
        ? readInlineConsume({ ...whose, cost }, known)
        : readConsume({ ...whose, cost }, known, this.config);
    return { op: "consume", wish, asked };
  }

  #settle(wish: Wish): Ask {
    const { id, whose, settledCost: cost } = wish;
    const request = { ...whose, id, cost };
    const asked = "layers" in whose ? readInlineSettle(request) : readSettle(request, this.config);
    return { op: "settle", wish, asked };
  }

  #release(wish: Wish): Ask {
    const { id, whose } = wish;
    const request = { ...whose, id };
    const asked = "layers" in whose ? readInlineRelease(request) : readRelease(request, this.config);
    return { op: "release", wish, asked };
  }

  #isAdmitted(wish: Wish): boolean {
    const decision = decisionOf(wish);
    return this.attempts.some(
      (attempt) => attempt.decision === decision && (attempt.ending === "admitted" || attempt.ending === "replayed"),
    );
  }
}

export function within([least, most]: Range, chance: Chance): number {
  return least + chance.below(most - least + 1);
}

const ENDINGS = new Map<string, Ending>([
  ["unreachable", "unreachable"],
  ["unknown-decision", "unknown decision"],
  ["reused-id", "reused id"],
]);

function endingOf(op: Told["op"], { allowed, replayed }: Told["decided"]): Ending {
  if (op !== "consume") return "changed";
  if (!allowed) return "denied";
  return replayed ? "replayed" : "admitted";
}

/** As its caller names it, not as the service does. */
function decisionOf({ id, whose }: Wish): string {
  if ("policy" in whose) return `${whose.policy} ${JSON.stringify(whose.subject)} ${id}`;
  return `inline ${JSON.stringify(whose.layers)} ${id}`;
}
