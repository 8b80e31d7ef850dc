import type { Config } from "../../src/config/config";
import type { Keys } from "../../src/edge/keys";
import type { Limiter } from "../../src/edge/limiter";
import { Refusal } from "../../src/edge/refusal";
import { type Asked, readCheck, readConsume, readRelease, readSettle } from "../../src/edge/request";
import type { Chance } from "./chance";
import type { Network } from "./network";
import type { Scheduler } from "./scheduler";
import type { Told } from "./told";

const MOST_IN_A_BATCH = 6;

/** Where callers are answered: a limiter with a memory of its own for denials. */
export interface Isolate {
  readonly number: number;
  readonly limiter: Limiter;
  readonly keys: Keys;
}

/** What a caller consumes under one id, however often it has to ask. */
interface Wish {
  readonly id: string;
  readonly subject: Record<string, string>;
  readonly cost: number;
  /** What it is settled at, if it is: one cost each, since of two settles the last to arrive holds. */
  readonly settledCost: number;
}

/** A call, of which a caller may send many at once. */
interface Ask {
  readonly op: Told["op"];
  readonly asked: Told["asked"];
}

/** Callers, each with requests of its own: one by one, in many attempts at once, and in batches. */
export class Callers {
  readonly told: Told[] = [];

  constructor(
    private readonly config: Config,
    private readonly isolates: readonly Isolate[],
    private readonly network: Network,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    /** How many of the requests are batches, from 0 to 1. */
    private readonly batches: number,
  ) {}

  async run(name: number, requests: number): Promise<void> {
    const { chance, scheduler } = this;
    const admitted: Wish[] = [];
    for (let request = 0; request < requests; request++) {
      await scheduler.sleep(chance.below(chance.is(0.2) ? 6_000 : 400));
      if (chance.is(this.batches)) await this.#batch(`${name}-${request}`, admitted);
      else await this.#alone(`${name}-${request}`, admitted);
    }
  }

  async #alone(id: string, admitted: Wish[]): Promise<void> {
    const { chance, scheduler } = this;
    const wish = this.#wish(id);
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
    if (!this.#isAdmitted(wish)) return;
    if (chance.is(0.5)) return void admitted.push(wish);
    if (chance.is(0.5)) await this.#repeat(() => this.#settle(wish));
    if (chance.is(0.7)) await this.#repeat(() => this.#release(wish));
    // One that was over long ago, in the eyes of its caller.
    if (chance.is(0.2)) await this.#send(this.#consume(wish, attempts + 1));
  }

  /** Until it is acknowledged or tried often enough, and sometimes once more. */
  async #repeat(ask: () => Ask): Promise<void> {
    for (let tries = 0; tries < 6; tries++) if ((await this.#send(ask())) && this.chance.is(0.7)) return;
  }

  /** A batch, which may be sent again: as a whole, or what was not answered. */
  async #batch(name: string, admitted: Wish[]): Promise<void> {
    const { chance } = this;
    const wishes: Wish[] = [];
    const asks = Array.from({ length: 1 + chance.below(MOST_IN_A_BATCH) }, (_, i) => {
      const earlier = admitted[chance.below(admitted.length)];
      if (earlier && chance.is(0.2)) return () => this.#settle(earlier);
      if (earlier && chance.is(0.3)) return () => this.#release(earlier);
      if (chance.is(0.15)) return () => this.#check(this.#wish(""));
      const known = wishes[chance.below(wishes.length)];
      const isRepeated = known !== undefined && chance.is(0.15);
      const wish = isRepeated ? known : this.#wish(`${name}-${i}`);
      if (!isRepeated) wishes.push(wish);
      return (attempt: number) => this.#consume(wish, isRepeated ? attempt + 1 : attempt);
    });
    for (let attempt = 1, left = asks; attempt <= 3 && left.length > 0; attempt++) {
      const { limiter, number } = chance.of(this.isolates);
      const limiterOf = limiter.forBatch();
      const batch = `${name} ${attempt}`;
      const answered = await Promise.all(
        left.map((ask, index) => this.#ask(ask(attempt), limiterOf(index), number, { batch, index })),
      );
      if (chance.is(0.7)) left = left.filter((_, i) => !answered[i]);
    }
    admitted.push(...wishes.filter((wish) => this.#isAdmitted(wish)));
  }

  #send(ask: Ask): Promise<boolean> {
    const { limiter, number } = this.chance.of(this.isolates);
    return this.#ask(ask, limiter, number);
  }

  /** True if the caller knows how it ended. */
  async #ask({ op, asked }: Ask, limiter: Limiter, isolate: number, place?: Told["place"]): Promise<boolean> {
    const { scheduler, network } = this;
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
      return true;
    } catch (error) {
      // An event is unknown once its window has passed.
      if (error instanceof Refusal && (error.kind === "unreachable" || error.kind === "unknown-decision")) return false;
      throw error;
    }
  }

  #wish(id: string): Wish {
    const { chance } = this;
    const ip = `10.0.0.${chance.below(2)}`;
    const subject: Record<string, string> = chance.is(0.6) ? { user: `u${chance.below(2)}`, ip } : { ip };
    return { id, subject, cost: 1 + chance.below(3), settledCost: chance.below(6) };
  }

  #check({ subject, cost }: Wish): Ask {
    const asked: Asked = readCheck({ policy: "small", subject, cost }, this.config);
    return { op: "check", asked: { ...asked, id: "" } };
  }

  /** Not every caller says which attempt it is. */
  #consume({ id, subject, cost }: Wish, attempt: number): Ask {
    const known = { key: id, ...(this.chance.is(0.7) && { attempt }) };
    return { op: "consume", asked: readConsume({ policy: "small", subject, cost }, known, this.config) };
  }

  #settle({ id, subject, settledCost: cost }: Wish): Ask {
    return { op: "settle", asked: readSettle({ policy: "small", subject, id, cost }, this.config) };
  }

  #release({ id, subject }: Wish): Ask {
    return { op: "release", asked: readRelease({ policy: "small", subject, id }, this.config) };
  }

  #isAdmitted({ id }: Wish): boolean {
    return this.told.some(({ op, asked, decided }) => op === "consume" && asked.id === id && decided.allowed);
  }
}
