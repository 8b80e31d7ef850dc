import type {
  Answer,
  AskedCounter,
  Charge,
  ChargeAnswer,
  EventAnswer,
  EventQuestion,
  Question,
} from "../../src/object/protocol";
import { mistakesOnDisks } from "./disks";
import { type Event, Model, placeOf } from "./model";
import type { Deed, Network } from "./network";
import {
  admittedInSpiteOfBans,
  type Forgetting,
  mistakesInEnds,
  type Order,
  type ToldForgetting,
  type ToldOrder,
  undoneIn,
} from "./orders";
import { isCountedInShadow, mistakesInShadow, shadowNameOf } from "./shadows";
import { type Leavings, nameOf, outOfOrder, type Told, untruthsIn } from "./told";

/** Judges a history from what objects did, and callers and admins were told, by a model of the objects. */
export class Judge {
  readonly mistakes: string[] = [];
  readonly #model = new Model();
  /** What every limit counted that a denial may tell of. */
  readonly #leavings: Leavings = new Map();

  constructor(
    private readonly network: Network,
    private readonly told: readonly Told[],
    private readonly toldOrders: readonly ToldOrder[],
    private readonly toldForgettings: readonly ToldForgetting[],
    private readonly denyCacheMs: number,
  ) {}

  /** `isFaultless`: nothing was lost, crashed or slow, and nobody hung up. */
  judge(isFaultless: boolean): string[] {
    const told = [...this.told];
    const orders = [...this.network.orders];
    const forgettings = [...this.network.forgettings];
    this.network.deeds.forEach((deed, i) => {
      while ((forgettings[0]?.at ?? Number.POSITIVE_INFINITY) <= i) this.#forget(forgettings.shift() as Forgetting);
      while ((orders[0]?.at ?? Number.POSITIVE_INFINITY) <= i) this.#obey(orders.shift() as Order);
      while ((told[0]?.after ?? Number.POSITIVE_INFINITY) <= i) this.#stored(told.shift() as Told);
      if (deed.committed) this.#replay(deed, i);
    });
    for (const order of orders) this.#obey(order);
    for (const forgetting of forgettings) this.#forget(forgetting);
    for (const one of told) this.#stored(one);
    this.mistakes.push(...mistakesOnDisks(this.network, this.#model));
    this.#changed();
    const makingRoom = [...this.toldOrders, ...this.toldForgettings];
    this.mistakes.push(...untruthsIn(this.told, makingRoom, this.network.deeds, this.denyCacheMs, this.#leavings));
    this.mistakes.push(...mistakesInShadow(this.told, isFaultless));
    this.mistakes.push(...undoneIn(this.toldOrders, this.network.orders));
    this.mistakes.push(...mistakesInEnds(this.network));
    this.mistakes.push(...admittedInSpiteOfBans(this.told, this.toldOrders, this.network));
    if (isFaultless) this.#nothingLeftOver();
    this.mistakes.push(...outOfOrder(this.told, this.network.deeds));
    if (this.network.pushed > 0) this.#mistake("an overloaded object was asked again");
    return this.mistakes;
  }

  #replay({ object, wallMs, what }: Deed, deed: number): void {
    const { method, question, answer } = what;
    if (answer.atMs < wallMs) this.#mistake(`${object} decided before the time on its clock`);
    if (method === "consume") this.#consume(object, question, answer, deed);
    else if (method === "undo") this.#undo(object, question, answer);
    else if (method === "settle") this.#settle(object, question, answer);
    else if (method === "release") this.#release(object, question, answer);
    else this.#decides(object, question, answer);
    if (method !== "settle" && method !== "release") this.#note(this.network.deeds[deed] as Deed);
    this.#counts(object, question, method === "settle" || method === "release" ? 1 : question.cost, answer);
  }

  #note(deed: Deed): void {
    const { object, what } = deed;
    const { policy, counters } = what.question;
    const { atMs } = what.answer;
    const leavings = counters.map((counter) =>
      this.#model
        .ruleOf(object, policy, counter, atMs)
        .limits.map((limit) => this.#model.leavings(object, policy, counter, limit, atMs)),
    );
    this.#leavings.set(deed, leavings);
  }

  #obey({ object, key, set, committed }: Order): void {
    if (!committed) return;
    if (set) this.#model.overrides.set(placeOf(object, key), set);
    else this.#model.overrides.delete(placeOf(object, key));
  }

  #forget({ object, key, committed }: Forgetting): void {
    if (committed) this.#model.forget(placeOf(object, key));
  }

  /** Nothing is admitted that does not fit, however little is in use, and nothing denied that fits, however much is. */
  #decides(object: string, question: Question, { allowed, atMs }: Answer): void {
    if (this.#model.fits(object, question, atMs, allowed ? "least" : "most") === allowed) return;
    this.#mistake(`${object} ${allowed ? "admitted" : "denied"} at ${atMs}: ${JSON.stringify(question)}`);
  }

  /** What was told about the limits in force is so, how long `cost` has to wait, and what overrides them. */
  #counts(object: string, { policy, counters }: Question, cost: number, answer: Answer): void {
    if (answer.overrides?.every((one) => one === null))
      this.#mistake(`${object} said that something is overridden, and nothing is`);
    counters.forEach((counter, c) => {
      const { layer, key, limits: own } = counter;
      const { atMs, standings } = answer;
      const { limits } = this.#model.ruleOf(object, policy, counter, atMs);
      if (standings[c]?.length !== limits.length)
        this.#mistake(`${object} said nothing of a limit of ${layer} of ${key}`);
      const isKnown = [...own, ...limits].every((limit) => {
        const [least, most] = this.#model.used(object, policy, counter, limit, atMs);
        return least === most;
      });
      this.#overridden(object, policy, counter, cost, atMs, answer.overrides?.[c] ?? null, isKnown);
      limits.forEach((limit, l) => {
        const [least, most] = this.#model.used(object, policy, counter, limit, atMs);
        const said = standings[c]?.[l];
        if (said === undefined || said.used < least || said.used > most)
          this.#mistake(`${object} said that ${layer} of ${key} has ${said?.used} in use, and it has ${most}`);
        const fitsInMs = this.#model.waitMs(object, policy, counter, limit, cost, atMs);
        if (isKnown && said?.fitsInMs !== fitsInMs)
          this.#mistake(`${object} said that ${cost} fits ${layer} of ${key} in ${said?.fitsInMs}, not ${fitsInMs}`);
      });
    });
  }

  #overridden(
    object: string,
    policy: string,
    counter: AskedCounter,
    cost: number,
    atMs: number,
    said: NonNullable<Answer["overrides"]>[number],
    isKnown: boolean,
  ): void {
    const { kind, limits, endsAtMs } = this.#model.ruleOf(object, policy, counter, atMs);
    const ownFitsInMs = isKnown ? this.#model.ownWaitMs(object, policy, counter, cost, atMs) : said?.ownFitsInMs;
    const others = kind === "limits" && { limits };
    const expected = kind ? { kind, ...others, endsInMs: endsAtMs - atMs, ownFitsInMs } : null;
    if (JSON.stringify(said) !== JSON.stringify(expected))
      this.#mistake(`${object} said of ${counter.key} ${JSON.stringify(said)}, not ${JSON.stringify(expected)}`);
  }

  #consume(object: string, charge: Charge, answer: ChargeAnswer, deed: number): void {
    const { atMs } = answer;
    const keys = [...new Set(charge.counters.map(({ key }) => key))];
    const known = keys.map((key) => this.#model.find(object, key, nameOf(charge), atMs));
    if (answer.conflicts) return;
    const fresh = keys.filter((_, i) => known[i] === undefined);
    this.#decides(object, { ...charge, counters: charge.counters.filter(({ key }) => fresh.includes(key)) }, answer);
    if (!answer.allowed) return;
    if (!charge.alone) for (const event of known) event?.claims.add(charge.attempt);
    for (const key of fresh) {
      const place = placeOf(object, key);
      if ((this.#model.events.get(place) ?? []).some((earlier) => earlier.atMs > atMs))
        this.#mistake(`${object}: time ran backwards for ${key}`);
      const { policy, cost, attempt } = charge;
      const mine = charge.counters.filter((counter) => counter.key === key);
      // Limits that override the policy's may have longer windows.
      const inForce = mine.flatMap((counter) => this.#model.ruleOf(object, policy, counter, atMs).limits);
      const keepMs = Math.max(charge.keepMs, ...inForce.map(({ windowMs }) => windowMs));
      const changes = { cost, isOver: false, claims: new Set([attempt]) };
      const event = {
        name: nameOf(charge),
        place,
        atMs,
        keepMs,
        knownMs: charge.keepMs,
        deed,
        counters: mine,
        policy,
        ...changes,
      };
      this.#model.events.set(place, [...(this.#model.events.get(place) ?? []), event]);
    }
  }

  #undo(object: string, charge: Charge, { atMs }: Answer): void {
    for (const event of this.#model.named(object, charge, atMs))
      if (event.claims.delete(charge.attempt) && event.claims.size === 0) this.#model.remove(event);
  }

  #settle(object: string, question: EventQuestion, { found, atMs }: EventAnswer): void {
    const events = this.#model.named(object, question, atMs);
    if (found && events.length === 0) this.#mistake(`${object} settled ${nameOf(question)}, which there is not`);
    if (found) for (const event of events) event.cost = question.cost;
  }

  #release(object: string, question: EventQuestion, { found, atMs }: EventAnswer): void {
    const events = this.#model.named(object, question, atMs);
    if (found && events.length === 0) this.#mistake(`${object} released ${nameOf(question)}, which there is not`);
    if (!found) return;
    for (const event of events) {
      const counts = question.counters
        .filter(({ key }) => event.counters.some((counter) => counter.key === key))
        .flatMap((counter) =>
          [counter.limits, this.#model.ruleOf(object, question.policy, counter, atMs).limits].flat(),
        )
        .some(({ kind }) => kind === "concurrent");
      event.isOver = counts || event.isOver || "perhaps";
    }
  }

  /** What was acknowledged is stored, in every layer that the objects were asked about. */
  #stored(one: Told): void {
    const names = [
      ...(isAdmission(one) ? [nameOf(one.asked)] : []),
      ...(isCountedInShadow(one) ? [shadowNameOf(one)] : []),
    ];
    for (const name of names) {
      const asked = this.#askedAbout(name);
      if (asked.size === 0) this.#mistake(`${name} was admitted, and nobody was asked`);
      for (const place of asked)
        if (!this.#model.has(place, name)) this.#mistake(`${name} was acknowledged, and ${place} has it not`);
    }
  }

  /** Every object and key that a decision was ever to be charged to. */
  #askedAbout(name: string): Set<string> {
    const places = new Set<string>();
    for (const { object, what } of this.network.deeds)
      if (what.method === "consume" && nameOf(what.question) === name)
        for (const { key } of what.question.counters) places.add(placeOf(object, key));
    return places;
  }

  /** What a settle or a release that was acknowledged said is so everywhere. */
  #changed(): void {
    for (const { op, asked } of this.told)
      for (const [place, events] of this.#model.events)
        for (const event of events) {
          if (event.name !== nameOf(asked) || this.#isMissed(place, event)) continue;
          if (op === "settle" && event.cost !== asked.cost)
            this.#mistake(`${event.name} is settled at ${asked.cost}, at ${place} ${event.cost}`);
          if (op === "release" && !event.isOver) this.#mistake(`${event.name} is released, and under way at ${place}`);
        }
  }

  /**
   * An object had forgotten the event when it was asked to change it, its clock being ahead of the others', and perhaps
   * recorded it anew after that, for an attempt that came late.
   */
  #isMissed(place: string, { name, atMs, knownMs, deed }: Event): boolean {
    return this.network.deeds.some(
      ({ object, committed, what }, i) =>
        committed &&
        (what.method === "settle" || what.method === "release") &&
        nameOf(what.question) === name &&
        place.startsWith(`${object} `) &&
        (what.answer.atMs >= atMs + knownMs || i < deed),
    );
  }

  /** When nothing failed, only what was acknowledged is charged. */
  #nothingLeftOver(): void {
    const acknowledged = new Set([
      ...this.told.filter(isAdmission).map(({ asked }) => nameOf(asked)),
      ...this.told.filter(isCountedInShadow).map(shadowNameOf),
    ]);
    for (const [place, events] of this.#model.events)
      for (const { name } of events)
        if (!acknowledged.has(name)) this.#mistake(`${name} was denied, and is charged at ${place}`);
  }

  #mistake(text: string): void {
    this.mistakes.push(text);
  }
}

/** By live layers: without any, everything is admitted. */
function isAdmission({ op, asked, decided }: Told): boolean {
  return op === "consume" && decided.allowed && asked.counters.length > 0;
}
