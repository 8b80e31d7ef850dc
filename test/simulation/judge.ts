import type {
  ChangeVerdict,
  Charge,
  ChargeVerdict,
  Counter,
  EventQuestion,
  ObjectVerdict,
  Question,
} from "../../src/object/protocol";
import { mistakesOnDisks } from "./disks";
import { type Event, Model, placeOf } from "./model";
import type { Network } from "./network";
import { type Leavings, outOfOrder, untruthsIn } from "./observations";
import { admittedInSpiteOfBans, mistakesInEnds, type ToldForgetting, type ToldOrder, undoneIn } from "./orders";
import { type Deed, type Forgetting, nameOf, type Order, type Told } from "./record";
import { isCountedInShadow, mistakesInShadow, shadowNameOf } from "./shadows";
import { CLOCK_MARGIN_MS } from "./system";

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
    // Of a message that is repeated, a full disk may have refused one call the first time.
    if (this.network.faults.diskFull === 0) this.mistakes.push(...outOfOrder(this.told, this.network.deeds));
    if (this.network.pushed > 0) this.#mistake("an overloaded object was asked again");
    return this.mistakes;
  }

  #replay({ object, wallMs, what, isEnded }: Deed, deed: number): void {
    const { method, question, verdict: answer } = what;
    if (answer.atMs < wallMs) this.#mistake(`${object} decided before the time on its clock`);
    if (isEnded && answer.allowed && method === "consume")
      this.#mistake(`${object} admitted an attempt that it had denied or rolled back: ${JSON.stringify(question)}`);
    // Of an attempt that has ended nothing is charged any more.
    if (method === "consume") {
      if (!isEnded) this.#consume(object, question, answer, deed);
    } else if (method === "rollBack") this.#undo(object, question);
    else if (method === "settle") this.#settle(object, question, answer);
    else if (method === "release") this.#release(object, question, answer);
    else this.#decides(object, question, answer);
    if (method !== "settle" && method !== "release") this.#note(this.network.deeds[deed] as Deed);
    this.#counts(object, question, method === "settle" || method === "release" ? 1 : question.cost, answer);
  }

  #note(deed: Deed): void {
    const { object, what } = deed;
    const { policy, counters } = what.question;
    const { atMs } = what.verdict;
    const leavings = counters.map((counter) =>
      this.#model
        .ruleOf(object, policy, counter, atMs)
        .limits.map((limit) => this.#model.leavings(object, policy, counter, limit, atMs)),
    );
    this.#leavings.set(deed, leavings);
  }

  #forget({ object, key, committed }: Forgetting): void {
    if (committed) this.#model.forget(placeOf(object, key));
  }

  #obey({ object, key, set, committed }: Order): void {
    if (!committed) return;
    if (set) this.#model.overrides.set(placeOf(object, key), set);
    else this.#model.overrides.delete(placeOf(object, key));
  }

  /** Nothing is admitted that does not fit, and nothing denied that fits. */
  #decides(object: string, question: Question, { allowed, atMs }: ObjectVerdict): void {
    if (this.#model.fits(object, question, atMs) === allowed) return;
    this.#mistake(`${object} ${allowed ? "admitted" : "denied"} at ${atMs}: ${JSON.stringify(question)}`);
  }

  /** What was told about the limits in force is so, how long `cost` has to wait, and what overrides them. */
  #counts(object: string, { policy, counters }: Question, cost: number, answer: ObjectVerdict): void {
    if (answer.overrides?.every((one) => one === null))
      this.#mistake(`${object} said that something is overridden, and nothing is`);
    counters.forEach((counter, c) => {
      const { layer, key } = counter;
      const { atMs, standings } = answer;
      const { limits } = this.#model.ruleOf(object, policy, counter, atMs);
      if (standings[c]?.length !== limits.length)
        this.#mistake(`${object} said nothing of a limit of ${layer} of ${key}`);
      this.#overridden(object, policy, counter, cost, atMs, answer.overrides?.[c] ?? null);
      limits.forEach((limit, l) => {
        const used = this.#model.used(object, policy, counter, limit, atMs);
        const said = standings[c]?.[l];
        if (said?.used !== used)
          this.#mistake(`${object} said that ${layer} of ${key} has ${said?.used} in use, and it has ${used}`);
        const fitsInMs = this.#model.waitMs(object, policy, counter, limit, cost, atMs);
        if (said?.fitsInMs !== fitsInMs)
          this.#mistake(`${object} said that ${cost} fits ${layer} of ${key} in ${said?.fitsInMs}, not ${fitsInMs}`);
      });
    });
  }

  #overridden(
    object: string,
    policy: string,
    counter: Counter,
    cost: number,
    atMs: number,
    said: NonNullable<ObjectVerdict["overrides"]>[number],
  ): void {
    const { kind, limits, endsAtMs } = this.#model.ruleOf(object, policy, counter, atMs);
    const ownFitsInMs = this.#model.ownWaitMs(object, policy, counter, cost, atMs);
    const others = kind === "limits" && { limits };
    const expected = kind ? { kind, ...others, endsInMs: endsAtMs - atMs, ownFitsInMs } : null;
    if (JSON.stringify(said) !== JSON.stringify(expected))
      this.#mistake(`${object} said of ${counter.key} ${JSON.stringify(said)}, not ${JSON.stringify(expected)}`);
  }

  #consume(object: string, charge: Charge, answer: ChargeVerdict, deed: number): void {
    const { atMs, charged, allowed, conflicts } = answer;
    const { attempt, recognition } = charge;
    const keys = [...new Set(charge.counters.map(({ key }) => key))];
    const holdings = keys
      .map((key) => ({ key, held: this.#model.held(object, key, charge, atMs, CLOCK_MARGIN_MS)[0] }))
      .filter(({ held }) => !(held?.makers.has(attempt) && held.claims.has(attempt)));
    const rely = () => {
      for (const { held } of holdings)
        if (held && !(charge.isOnlyPart && isOfAsked(held, charge))) held.claims.add(attempt);
    };
    if (conflicts) return;
    if (allowed && !charged) {
      rely();
      return;
    }
    const open = recognition === "known" ? holdings.filter(({ held }) => !held) : holdings;
    const earlier = this.#earlier(object, charge, atMs);
    const young = open.flatMap(({ held }) => (held && isYoung(held, charge, earlier, atMs) ? held : []));
    for (const { held } of open) if (held && !young.includes(held)) this.#lift(held, attempt);
    for (const event of young) this.#model.remove(event);
    const counters = charge.counters.filter(({ key }) => open.some((one) => one.key === key));
    this.#decides(object, { ...charge, counters }, answer);
    if (!allowed) {
      for (const event of young) this.#model.add(event);
      this.#undo(object, charge);
      return;
    }
    if (recognition === "known") rely();
    for (const { key, held } of open) {
      const place = placeOf(object, key);
      if ((this.#model.events.get(place) ?? []).some((other) => other.atMs > atMs))
        this.#mistake(`${object}: time ran backwards for ${key}`);
      const event = this.#eventOf(object, key, charge, atMs, deed);
      if (!held || !young.includes(held)) {
        this.#model.add(event);
        continue;
      }
      for (const claim of held.claims) event.claims.add(claim);
      for (const maker of held.makers) event.makers.add(maker);
      const { windowMs, retainMs, counters } = held;
      this.#model.add({ ...event, windowMs, retainMs, counters });
    }
  }

  /** The attempts of the decision before this one, where its object alone has judged. */
  #earlier(object: string, charge: Charge, atMs: number): readonly string[] {
    if (charge.recognition || !charge.isOnlyPart) return charge.earlierMakers ?? [];
    const [newest, ...older] = this.#model.held(object, charge.counters[0]?.key ?? "", charge, atMs, CLOCK_MARGIN_MS);
    const isKnown = newest !== undefined && atMs - newest.atMs < newest.windowMs;
    return [...(newest && !isKnown ? [newest] : []), ...older.slice(0, 1)].flatMap(({ makers }) => [...makers]);
  }

  #eventOf(object: string, key: string, charge: Charge, atMs: number, deed: number): Event {
    const { policy, cost, attempt, id, windowMs, identity } = charge;
    const counters = charge.counters.filter((counter) => counter.key === key);
    // Limits that override the policy's may have longer windows; the policy's own may hold again before these end.
    const windows = counters.flatMap((counter) =>
      [...counter.limits, ...this.#model.ruleOf(object, policy, counter, atMs).limits].map(({ windowMs }) => windowMs),
    );
    const retainMs = Math.max(windowMs + CLOCK_MARGIN_MS, ...windows);
    const changes = { cost, isOver: false, claims: new Set([attempt]), makers: new Set([attempt]) };
    const place = placeOf(object, key);
    const what = { name: nameOf(charge), id, identity, place, policy, admittedCost: cost };
    return { ...what, atMs, windowMs, retainMs, deed, counters, ...changes };
  }

  #undo(object: string, charge: Charge): void {
    for (const key of new Set(charge.counters.map(({ key }) => key)))
      for (const event of this.#model.held(object, key, charge, 0, Number.POSITIVE_INFINITY))
        this.#lift(event, charge.attempt);
  }

  #lift(event: Event, attempt: string): void {
    if (event.claims.delete(attempt) && event.claims.size === 0) this.#model.remove(event);
  }

  #settle(object: string, question: EventQuestion, { found, atMs }: ChangeVerdict): void {
    const events = this.#model.named(object, question, atMs);
    if (found && events.length === 0) this.#mistake(`${object} settled ${nameOf(question)}, which there is not`);
    if (found) for (const event of events) event.cost = question.cost;
  }

  #release(object: string, question: EventQuestion, { found, atMs }: ChangeVerdict): void {
    const events = this.#model.named(object, question, atMs);
    if (found && events.length === 0) this.#mistake(`${object} released ${nameOf(question)}, which there is not`);
    if (found) for (const event of events) event.isOver = true;
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
  #isMissed(place: string, { name, atMs, windowMs, deed }: Event): boolean {
    return this.network.deeds.some(
      ({ object, committed, what }, i) =>
        committed &&
        (what.method === "settle" || what.method === "release") &&
        nameOf(what.question) === name &&
        place.startsWith(`${object} `) &&
        (what.verdict.atMs >= atMs + windowMs || i < deed),
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

/** It may be of an attempt that is being made just now, and is of no decision before this one. */
function isYoung(event: Event, charge: Charge, earlier: readonly string[], atMs: number): boolean {
  const ageMs = atMs - event.atMs;
  const isSame = event.policy === charge.policy && event.admittedCost === charge.cost;
  const isEarlier = [...event.makers].some((maker) => earlier.includes(maker));
  return isSame && !isEarlier && ageMs < event.windowMs && ageMs <= (charge.attemptMs ?? 0);
}

/** No other object had a part in it. */
function isOfAsked({ identity }: Event, { counters }: Charge): boolean {
  const layers = identity.split(",").flatMap((pair) => pair.split("=").slice(0, -1));
  return layers.every((layer) => layer === "" || counters.some((counter) => counter.layer === layer));
}
