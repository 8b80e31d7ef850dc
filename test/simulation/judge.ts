import type { Limit } from "../../src/core/limit";
import { readPage } from "../../src/object/page";
import type { Answer, Charge, ChargeAnswer, EventQuestion, Question } from "../../src/object/protocol";
import type { Deed, Network } from "./network";
import { nameOf, outOfOrder, type Told, untruthsIn } from "./told";

interface Event {
  readonly name: string;
  readonly atMs: number;
  readonly keepMs: number;
  readonly counters: Charge["counters"];
  readonly policy: string;
  cost: number;
  /** It takes no place any more among what is under way. */
  isOver: boolean;
  readonly claims: Set<string>;
}

/**
 * Judges a history from what objects did and callers were told. Its model of an object is a list of events per key, kept
 * for ever and added up: it shares nothing with the code that it judges but the words of the protocol.
 */
export class Judge {
  readonly mistakes: string[] = [];
  readonly #events = new Map<string, Event[]>();

  constructor(
    private readonly network: Network,
    private readonly told: readonly Told[],
    private readonly denyCacheMs: number,
  ) {}

  /** `isFaultless`: nothing was lost, crashed or slow, and nobody hung up. */
  judge(isFaultless: boolean): string[] {
    const told = [...this.told];
    this.network.deeds.forEach((deed, i) => {
      while ((told[0]?.after ?? Number.POSITIVE_INFINITY) <= i) this.#stored(told.shift() as Told);
      if (deed.committed) this.#replay(deed);
    });
    for (const one of told) this.#stored(one);
    this.#comparesWithDisks();
    this.#toldOnce();
    this.#settled();
    this.#released();
    this.mistakes.push(...untruthsIn(this.told, this.network.deeds, this.denyCacheMs));
    if (isFaultless) this.#nothingLeftOver();
    if (isFaultless) this.mistakes.push(...outOfOrder(this.told, this.network.deeds));
    if (this.network.pushed > 0) this.#mistake("an overloaded object was asked again");
    return this.mistakes;
  }

  #replay({ object, wallMs, what }: Deed): void {
    const { method, question, answer } = what;
    if (answer.atMs < wallMs) this.#mistake(`${object} decided before the time on its clock`);
    if (method === "consume") this.#consume(object, question, answer);
    else if (method === "undo") this.#undo(object, question);
    else if (method === "settle") this.#settle(object, question, answer.found);
    else if (method === "release") this.#release(object, question, answer.found);
    else if (answer.allowed !== this.#fits(object, question, answer.atMs))
      this.#mistake(`${object} said of a check that it is ${answer.allowed}`);
    this.#counts(object, question, method === "settle" || method === "release" ? 1 : question.cost, answer);
  }

  /** What was told about the limits is so, and how long `cost` has to wait. */
  #counts(object: string, { policy, counters }: Question, cost: number, { atMs, standings }: Answer): void {
    counters.forEach(({ layer, key, limits }, c) => {
      limits.forEach((limit, l) => {
        const inUse = this.#inUse(object, key, policy, layer, limit, atMs);
        let used = weightOf(limit, inUse);
        const said = standings[c]?.[l];
        if (said?.used !== used)
          this.#mistake(`${object} said that ${layer} of ${key} has ${said?.used} in use, and it has ${used}`);
        let fitsInMs = 0;
        for (const event of inUse) {
          if (used + weightOfOne(limit, cost) <= limit.max) break;
          used -= weightOf(limit, [event]);
          fitsInMs = event.atMs + limit.windowMs - atMs;
        }
        if (said?.fitsInMs !== fitsInMs)
          this.#mistake(`${object} said that ${cost} fits ${layer} of ${key} in ${said?.fitsInMs}, not ${fitsInMs}`);
      });
    });
  }

  #fits(object: string, { policy, cost, counters }: Question, atMs: number): boolean {
    return counters.every(({ layer, key, limits }) =>
      limits.every((limit) => {
        const used = weightOf(limit, this.#inUse(object, key, policy, layer, limit, atMs));
        return used + weightOfOne(limit, cost) <= limit.max;
      }),
    );
  }

  #consume(object: string, charge: Charge, answer: ChargeAnswer): void {
    const { atMs } = answer;
    const keys = [...new Set(charge.counters.map(({ key }) => key))];
    const known = keys.map((key) => this.#find(object, key, nameOf(charge), atMs));
    if (answer.conflicts) return;
    const fresh = keys.filter((_, i) => known[i] === undefined);
    const fits = this.#fits(
      object,
      { ...charge, counters: charge.counters.filter(({ key }) => fresh.includes(key)) },
      atMs,
    );
    if (answer.allowed !== fits)
      this.#mistake(
        `${object} ${fits ? "denied" : "admitted"} ${nameOf(charge)} at ${atMs}: ${JSON.stringify(charge)}`,
      );
    if (!answer.allowed) return;
    if (!charge.alone) for (const event of known) event?.claims.add(charge.attempt);
    for (const key of fresh) {
      const place = `${object} ${key}`;
      if ((this.#events.get(place) ?? []).some((earlier) => earlier.atMs > atMs))
        this.#mistake(`${object}: time ran backwards for ${key}`);
      const { policy, cost, keepMs, attempt } = charge;
      const mine = charge.counters.filter((counter) => counter.key === key);
      const claims = new Set([attempt]);
      const event = { name: nameOf(charge), atMs, keepMs, counters: mine, policy, cost, isOver: false, claims };
      this.#events.set(place, [...(this.#events.get(place) ?? []), event]);
    }
  }

  #undo(object: string, charge: Charge): void {
    for (const key of new Set(charge.counters.map(({ key }) => key))) {
      const place = `${object} ${key}`;
      for (const event of this.#events.get(place) ?? []) {
        if (event.name !== nameOf(charge)) continue;
        if (event.claims.delete(charge.attempt) && event.claims.size === 0)
          this.#events.set(
            place,
            (this.#events.get(place) ?? []).filter((other) => other !== event),
          );
      }
    }
  }

  #settle(object: string, question: EventQuestion, found: boolean): void {
    const events = this.#eventsOf(object, question);
    if (found && events.length === 0) this.#mistake(`${object} settled ${nameOf(question)}, which there is not`);
    if (found) for (const event of events) event.cost = question.cost;
  }

  #release(object: string, question: EventQuestion, found: boolean): void {
    const events = this.#eventsOf(object, question);
    if (found && events.length === 0) this.#mistake(`${object} released ${nameOf(question)}, which there is not`);
    if (found) for (const event of events) event.isOver = true;
  }

  #eventsOf(object: string, question: EventQuestion): Event[] {
    return [...new Set(question.counters.map(({ key }) => key))].flatMap((key) =>
      (this.#events.get(`${object} ${key}`) ?? []).filter(({ name }) => name === nameOf(question)),
    );
  }

  /** What was acknowledged is stored, in every layer that the objects were asked about. */
  #stored(one: Told): void {
    if (!isAdmission(one)) return;
    const id = nameOf(one.asked);
    const asked = this.#askedAbout(id);
    if (asked.size === 0) this.#mistake(`${id} was admitted, and nobody was asked`);
    for (const place of asked)
      if (!this.#events.get(place)?.some(({ name }) => name === id))
        this.#mistake(`${id} was acknowledged, and ${place} has it not`);
  }

  /** Every object and key that a decision was ever to be charged to. */
  #askedAbout(name: string): Set<string> {
    const places = new Set<string>();
    for (const { object, what } of this.network.deeds)
      if (what.method === "consume" && nameOf(what.question) === name)
        for (const { key } of what.question.counters) places.add(`${object} ${key}`);
    return places;
  }

  /** Nothing is charged twice, nothing is lost, nothing is made up: the disks hold what the model does. */
  #comparesWithDisks(): void {
    for (const [name, { disk }] of this.network.objects) {
      const stored = [...disk.rows.values()].flatMap(({ key, text }) =>
        readPage(text).map(
          ({ id, subject, cost, released, atMs }) => `${name} ${key} ${id} ${subject} ${cost} ${released} ${atMs}`,
        ),
      );
      const model = [...this.#events]
        .filter(([place]) => place.startsWith(`${name} `))
        .flatMap(([place, events]) => events.map((event) => `${place} ${event.name} ${stateOf(event)} ${event.atMs}`));
      // A page that was rewritten may have left out what no window can see any more.
      const missing = model.filter((event) => !stored.includes(event));
      const made = stored.filter((event) => !model.includes(event));
      for (const event of made) this.#mistake(`stored, and never recorded: ${event}`);
      if (new Set(stored).size !== stored.length) this.#mistake(`${name} has an event twice`);
      for (const event of missing) if (!this.#isForgotten(event)) this.#mistake(`recorded, and not stored: ${event}`);
    }
  }

  #isForgotten(event: string): boolean {
    const atMs = Number(event.split(" ").at(-1));
    const newest = Math.max(...this.network.deeds.map(({ what }) => what.answer.atMs));
    return atMs + 20_000 <= newest;
  }

  /** Of all the times that a decision was acknowledged, at most one was no replay. */
  #toldOnce(): void {
    const firsts = new Map<string, number>();
    for (const one of this.told.filter(isAdmission)) {
      const name = nameOf(one.asked);
      if (!one.decided.replayed) firsts.set(name, (firsts.get(name) ?? 0) + 1);
    }
    for (const [name, count] of firsts)
      if (count > 1) this.#mistake(`${name} was admitted ${count} times as if it were new`);
  }

  /** What a settle that was acknowledged said is so everywhere. */
  #settled(): void {
    for (const { op, asked } of this.told)
      if (op === "settle")
        for (const [place, events] of this.#events)
          for (const { name, cost, atMs, keepMs } of events)
            if (name === nameOf(asked) && cost !== asked.cost && !this.#wasForgotten(place, name, atMs + keepMs))
              this.#mistake(`${name} is settled at ${asked.cost}, at ${place} ${cost}`);
  }

  /** What a release that was acknowledged said is so everywhere. */
  #released(): void {
    for (const { op, asked } of this.told)
      if (op === "release")
        for (const [place, events] of this.#events)
          for (const { name, isOver, atMs, keepMs } of events)
            if (name === nameOf(asked) && !isOver && !this.#wasForgotten(place, name, atMs + keepMs))
              this.#mistake(`${name} is released, and under way at ${place}`);
  }

  /** An object whose clock is ahead of the others' had forgotten the event when it was asked to change it. */
  #wasForgotten(place: string, name: string, expiresAtMs: number): boolean {
    return this.network.deeds.some(
      ({ object, committed, what }) =>
        committed &&
        (what.method === "settle" || what.method === "release") &&
        nameOf(what.question) === name &&
        place.startsWith(`${object} `) &&
        what.answer.atMs >= expiresAtMs,
    );
  }

  /** When nothing failed, only what was acknowledged is charged. */
  #nothingLeftOver(): void {
    const acknowledged = new Set(this.told.filter(isAdmission).map(({ asked }) => nameOf(asked)));
    for (const [place, events] of this.#events)
      for (const { name } of events)
        if (!acknowledged.has(name)) this.#mistake(`${name} was denied, and is charged at ${place}`);
  }

  #find(object: string, key: string, name: string, atMs: number): Event | undefined {
    return this.#events
      .get(`${object} ${key}`)
      ?.find((event) => event.name === name && event.atMs + event.keepMs > atMs);
  }

  /** The events in a window, the first one first. */
  #inUse(object: string, key: string, policy: string, layer: string, { windowMs }: Limit, tMs: number): Event[] {
    return (this.#events.get(`${object} ${key}`) ?? [])
      .filter((event) => event.policy === policy && event.counters.some((counter) => counter.layer === layer))
      .filter(({ atMs }) => atMs > tMs - windowMs && atMs <= tMs);
  }

  #mistake(text: string): void {
    this.mistakes.push(text);
  }
}

function isAdmission({ op, decided }: Told): boolean {
  return op === "consume" && decided.allowed;
}

/** What events count in a limit: their cost or, of those that are under way, one each. */
function weightOf({ kind }: Limit, events: readonly Event[]): number {
  if (kind === "concurrent") return events.filter(({ isOver }) => !isOver).length;
  return events.reduce((sum, { cost }) => sum + cost, 0);
}

/** What one more event would count. */
function weightOfOne({ kind }: Limit, cost: number): number {
  return kind === "concurrent" ? 1 : cost;
}

/** As it is stored: a key is told that an event is over where one of its limits counts what is under way. */
function stateOf({ cost, isOver, counters }: Event): string {
  const counts = counters.some(({ limits }) => limits.some(({ kind }) => kind === "concurrent"));
  return `${cost} ${isOver && counts}`;
}
