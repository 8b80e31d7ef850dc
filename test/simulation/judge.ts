import type { Cost } from "../../src/core/cost";
import type {
  ChangeVerdict,
  Charge,
  ChargeVerdict,
  Counter,
  EventQuestion,
  ObjectVerdict,
  Question,
} from "../../src/object/protocol";
import { answersWithoutSource, batchesOutOfOrder, type LeavingsByExecution } from "./answers";
import { costFor, isSameCost, settledFor } from "./costs";
import { mistakesOnDisks } from "./disks";
import { locationOf, Model, type ModelEvent } from "./model";
import type { Network } from "./network";
import {
  type AnsweredForget,
  type AnsweredOverride,
  admittedDespiteBan,
  overridesNotMade,
  overridesWithWrongEnd,
} from "./overrides";
import { type AnsweredCall, type Execution, eventNameOf, type ForgottenKey, type OverrideChange } from "./record";
import { isCountedInShadow, mistakesInShadow, shadowEventNameOf } from "./shadows";
import { CLOCK_MARGIN_MS, MAX_EVENTS } from "./system";

/**
 * Judges a history from both sides: what objects executed, and what callers and admins were answered. Executions are
 * applied to a model in their order, and every verdict must be the one that the model gives.
 */
export class Judge {
  readonly mistakes: string[] = [];
  readonly #model: Model;
  /** What each limit counted, and when it leaves the window, at every execution whose denial may be cached. */
  readonly #leavings: LeavingsByExecution = new Map();

  constructor(
    private readonly network: Network,
    private readonly answered: readonly AnsweredCall[],
    /** Decided by a hub that had died. */
    private readonly unheard: readonly AnsweredCall[],
    private readonly overrides: readonly AnsweredOverride[],
    private readonly forgets: readonly AnsweredForget[],
    private readonly denyCacheMs: number,
  ) {
    this.#model = new Model(network.machine.mostEvents ?? MAX_EVENTS, CLOCK_MARGIN_MS);
  }

  /** `isFaultless`: nothing was lost, slow or crashed, and no caller hung up. */
  judge(isFaultless: boolean): string[] {
    const { network, answered, unheard, overrides, forgets } = this;
    this.#applyAll();
    this.mistakes.push(...mistakesOnDisks(network, this.#model));
    this.#checkChanges();
    const adminCalls = [...overrides, ...forgets];
    this.mistakes.push(
      ...answersWithoutSource(answered, unheard, adminCalls, network.executions, this.denyCacheMs, this.#leavings),
    );
    this.mistakes.push(...mistakesInShadow(answered, isFaultless));
    this.mistakes.push(...overridesNotMade(overrides, network.overrideChanges));
    this.mistakes.push(...overridesWithWrongEnd(network));
    this.mistakes.push(...admittedDespiteBan(answered, overrides, network));
    if (isFaultless) this.#checkNothingLeftOver();
    // A full disk may refuse one call of a message, and take it when the message is repeated.
    if (network.faults.diskFull === 0) this.mistakes.push(...batchesOutOfOrder(answered, network.executions));
    if (network.retriesAfterOverload > 0) this.#mistake("a call to an overloaded object was retried");
    return this.mistakes;
  }

  /** Applies the whole history to the model, in its order. */
  #applyAll(): void {
    const answered = [...this.answered];
    const changes = [...this.network.overrideChanges];
    const forgotten = [...this.network.forgottenKeys];
    const isDue = (executionsBefore: number | undefined, i: number) =>
      (executionsBefore ?? Number.POSITIVE_INFINITY) <= i;
    this.network.executions.forEach((execution, i) => {
      while (isDue(forgotten[0]?.executionsBefore, i)) this.#applyForget(forgotten.shift() as ForgottenKey);
      while (isDue(changes[0]?.executionsBefore, i)) this.#applyOverride(changes.shift() as OverrideChange);
      while (isDue(answered[0]?.executionsAfter, i)) this.#checkStored(answered.shift() as AnsweredCall);
      if (execution.isCommitted) this.#apply(execution, i);
    });
    for (const change of changes) this.#applyOverride(change);
    for (const key of forgotten) this.#applyForget(key);
    for (const call of answered) this.#checkStored(call);
  }

  #apply(execution: Execution, index: number): void {
    const { object, wallMs, call, isOfEndedAttempt } = execution;
    const { method, question, verdict } = call;
    if (verdict.atMs < wallMs) this.#mistake(`${object} decided before the time on its clock`);
    if (isOfEndedAttempt && verdict.allowed && method === "consume")
      this.#mistake(`${object} admitted an attempt that it had denied or rolled back: ${JSON.stringify(question)}`);
    // An attempt that has ended charges nothing any more.
    if (method === "consume") {
      if (!isOfEndedAttempt) this.#applyConsume(object, question, verdict, index);
    } else if (method === "rollBack") this.#applyRollback(object, question);
    else if (method === "settle") this.#applySettle(object, question, verdict);
    else if (method === "release") this.#applyRelease(object, question, verdict);
    else this.#checkAllowed(object, question, verdict);
    if (method !== "settle" && method !== "release") this.#noteLeavings(execution);
    const cost = method === "settle" || method === "release" ? 1 : question.cost;
    this.#checkStandings(object, question, cost, verdict);
  }

  #noteLeavings(execution: Execution): void {
    const { object, call } = execution;
    const { policy, counters } = call.question;
    const { atMs } = call.verdict;
    const leavings = counters.map((counter) =>
      this.#model
        .limitsInForce(object, policy, counter, atMs)
        .limits.map((limit) => this.#model.leavings(object, policy, counter, limit, atMs)),
    );
    this.#leavings.set(execution, leavings);
  }

  #applyForget({ object, key, isCommitted }: ForgottenKey): void {
    if (isCommitted) this.#model.forget(locationOf(object, key));
  }

  #applyOverride({ object, key, stored, isCommitted }: OverrideChange): void {
    if (!isCommitted) return;
    if (stored) this.#model.overrides.set(locationOf(object, key), stored);
    else this.#model.overrides.delete(locationOf(object, key));
  }

  /** An object admits a cost that fits, and denies a cost that does not. */
  #checkAllowed(object: string, question: Question, { allowed, atMs }: ObjectVerdict): void {
    if (this.#model.fits(object, question, atMs) === allowed) return;
    this.#mistake(`${object} ${allowed ? "admitted" : "denied"} at ${atMs}: ${JSON.stringify(question)}`);
  }

  /** A verdict has every limit in force, with its right use and its right wait for the cost, and the override. */
  #checkStandings(object: string, { policy, counters }: Question, asked: Cost, verdict: ObjectVerdict): void {
    if (verdict.overrides?.every((override) => override === null))
      this.#mistake(`${object} reported overrides, but there is none`);
    counters.forEach((counter, c) => {
      const { layer, key } = counter;
      const cost = costFor(asked, layer);
      const { atMs, standings } = verdict;
      const { limits } = this.#model.limitsInForce(object, policy, counter, atMs);
      if (standings[c]?.length !== limits.length) this.#mistake(`${object} left out a limit of ${layer} of ${key}`);
      this.#checkOverride(object, policy, counter, cost, atMs, verdict.overrides?.[c] ?? null);
      limits.forEach((limit, l) => {
        const used = this.#model.used(object, policy, counter, limit, atMs);
        const standing = standings[c]?.[l];
        if (standing?.used !== used)
          this.#mistake(`${object} reported ${standing?.used} in use of ${layer} of ${key}, not ${used}`);
        const fitsInMs = this.#model.waitMs(object, policy, counter, limit, cost, atMs);
        if (standing?.fitsInMs !== fitsInMs)
          this.#mistake(
            `${object} reported that ${cost} fits ${layer} of ${key} in ${standing?.fitsInMs} ms, not ${fitsInMs} ms`,
          );
      });
    });
  }

  #checkOverride(
    object: string,
    policy: string,
    counter: Counter,
    cost: number,
    atMs: number,
    reported: NonNullable<ObjectVerdict["overrides"]>[number],
  ): void {
    const { kind, limits, endsAtMs } = this.#model.limitsInForce(object, policy, counter, atMs);
    const ownFitsInMs = this.#model.ownWaitMs(object, policy, counter, cost, atMs);
    const ownLimits = kind === "limits" && { limits };
    const expected = kind ? { kind, ...ownLimits, endsInMs: endsAtMs - atMs, ownFitsInMs } : null;
    if (JSON.stringify(reported) !== JSON.stringify(expected))
      this.#mistake(
        `${object} reported the override ${JSON.stringify(reported)} of ${counter.key}, not ${JSON.stringify(expected)}`,
      );
  }

  #applyConsume(object: string, charge: Charge, verdict: ChargeVerdict, index: number): void {
    const { atMs, charged, allowed, conflicts } = verdict;
    const { attempt, recognition } = charge;
    const keys = [...new Set(charge.counters.map(({ key }) => key))];
    const newest = keys.map((key) => ({ key, held: this.#model.held(object, key, charge, atMs, CLOCK_MARGIN_MS)[0] }));
    const isHeld = newest.some(({ held }) => held);
    const uncharged = newest.filter(({ held }) => !(held?.makers.has(attempt) && held.claims.has(attempt)));
    const claimHeld = () => {
      for (const { held } of uncharged)
        if (held && !(charge.isOnlyPart && hasAllLayersOf(held, charge))) held.claims.add(attempt);
    };
    if (conflicts) return;
    if (allowed && !charged) {
      claimHeld();
      return;
    }
    const toCharge = recognition === "known" ? uncharged.filter(({ held }) => !held) : uncharged;
    const earlierMakers = this.#earlierMakers(object, charge, atMs);
    const inFlight = toCharge.flatMap(({ held }) =>
      held && mayBeInFlight(held, charge, earlierMakers, atMs) ? held : [],
    );
    for (const { held } of toCharge) if (held && !inFlight.includes(held)) this.#liftClaim(held, attempt);
    for (const event of inFlight) this.#model.remove(event);
    const counters = charge.counters.filter(({ key }) => toCharge.some((target) => target.key === key));
    this.#checkAllowed(object, { ...charge, counters }, verdict);
    if (!allowed) {
      for (const event of inFlight) this.#model.add(event);
      // An event that the object does not hold any more belongs to an earlier admission, which stays charged.
      if (isHeld) this.#applyRollback(object, charge);
      return;
    }
    if (recognition === "known") claimHeld();
    for (const { key, held } of toCharge) {
      const event = this.#eventOf(object, key, charge, atMs, index);
      this.#record(object, key, held && inFlight.includes(held) ? moved(event, held) : event);
    }
  }

  #record(object: string, key: string, event: ModelEvent): void {
    if ((this.#model.events.get(locationOf(object, key)) ?? []).some((other) => other.atMs > event.atMs))
      this.#mistake(`${object}: time ran backwards for ${key}`);
    this.#model.add(event);
  }

  /** The attempts that made the id's previous decision. An object that holds the only part finds them itself. */
  #earlierMakers(object: string, charge: Charge, atMs: number): readonly string[] {
    if (charge.recognition || !charge.isOnlyPart) return charge.earlierMakers ?? [];
    const [newest, ...older] = this.#model.held(object, charge.counters[0]?.key ?? "", charge, atMs, CLOCK_MARGIN_MS);
    const isKnown = newest !== undefined && atMs - newest.atMs < newest.windowMs;
    return [...(newest && !isKnown ? [newest] : []), ...older.slice(0, 1)].flatMap(({ makers }) => [...makers]);
  }

  #eventOf(object: string, key: string, charge: Charge, atMs: number, execution: number): ModelEvent {
    const { policy, cost, attempt, id, windowMs, identity } = charge;
    const counters = charge.counters.filter((counter) => counter.key === key);
    // Limits of an override may have longer windows than the policy's own, which may be in force again before those end.
    const windows = counters.flatMap((counter) =>
      [...counter.limits, ...this.#model.limitsInForce(object, policy, counter, atMs).limits].map(
        ({ windowMs }) => windowMs,
      ),
    );
    return {
      name: eventNameOf(charge),
      id,
      identity,
      location: locationOf(object, key),
      policy,
      admittedCost: cost,
      atMs,
      windowMs,
      retainMs: Math.max(windowMs + CLOCK_MARGIN_MS, ...windows),
      execution,
      counters,
      costs: costsOf(counters, cost),
      isReleased: false,
      claims: new Set([attempt]),
      makers: new Set([attempt]),
    };
  }

  #applyRollback(object: string, charge: Charge): void {
    for (const key of new Set(charge.counters.map(({ key }) => key)))
      for (const event of this.#model.held(object, key, charge, 0, Number.POSITIVE_INFINITY))
        this.#liftClaim(event, charge.attempt);
  }

  #liftClaim(event: ModelEvent, attempt: string): void {
    if (event.claims.delete(attempt) && event.claims.size === 0) this.#model.remove(event);
  }

  #applySettle(object: string, question: EventQuestion, { found, atMs }: ChangeVerdict): void {
    const events = this.#model.eventsOf(object, question, atMs);
    if (found && events.length === 0) this.#mistake(`${object} settled ${eventNameOf(question)}, which does not exist`);
    if (!found) return;
    for (const { counters, costs } of events)
      for (const { layer } of counters) costs.set(layer, settledFor(question.cost, layer) ?? costs.get(layer) ?? 0);
  }

  #applyRelease(object: string, question: EventQuestion, { found, atMs }: ChangeVerdict): void {
    const events = this.#model.eventsOf(object, question, atMs);
    if (found && events.length === 0)
      this.#mistake(`${object} released ${eventNameOf(question)}, which does not exist`);
    if (found) for (const event of events) event.isReleased = true;
  }

  /** An acknowledged admission is recorded at every location that was ever asked to charge it. */
  #checkStored(call: AnsweredCall): void {
    const names = [
      ...(isLiveAdmission(call) ? [eventNameOf(call.request)] : []),
      ...(isCountedInShadow(call) ? [shadowEventNameOf(call)] : []),
    ];
    for (const name of names) {
      const locations = this.#locationsOf(name);
      if (locations.size === 0) this.#mistake(`${name} was admitted, but no object was asked`);
      for (const location of locations)
        if (!this.#model.has(location, name)) this.#mistake(`${name} was acknowledged, but is not at ${location}`);
    }
  }

  /** Every object and key that was ever asked to charge the event. */
  #locationsOf(name: string): Set<string> {
    const locations = new Set<string>();
    for (const { object, call } of this.network.executions)
      if (call.method === "consume" && eventNameOf(call.question) === name)
        for (const { key } of call.question.counters) locations.add(locationOf(object, key));
    return locations;
  }

  /** An acknowledged settle or release changed the event at every location. */
  #checkChanges(): void {
    for (const { op, request } of this.answered)
      for (const [location, events] of this.#model.events)
        for (const event of events) {
          if (event.name !== eventNameOf(request) || this.#mayMissChange(location, event)) continue;
          for (const [layer, cost] of op === "settle" ? event.costs : [])
            if (cost !== (settledFor(request.cost, layer) ?? cost))
              this.#mistake(
                `${event.name} was settled at ${JSON.stringify(request.cost)}, but is ${cost} at ${location}`,
              );
          if (op === "release" && !event.isReleased)
            this.#mistake(`${event.name} was released, but still takes a place at ${location}`);
        }
  }

  /**
   * Whether the object may have missed the change: its clock was ahead, so that it did not know the id any more. Or the object
   * recorded the event anew after the change, for a late attempt.
   */
  #mayMissChange(location: string, { name, atMs, windowMs, execution }: ModelEvent): boolean {
    return this.network.executions.some(
      ({ object, isCommitted, call }, i) =>
        isCommitted &&
        (call.method === "settle" || call.method === "release") &&
        eventNameOf(call.question) === name &&
        location.startsWith(`${object} `) &&
        (call.verdict.atMs >= atMs + windowMs || i < execution),
    );
  }

  /** In a faultless history only acknowledged admissions are charged. */
  #checkNothingLeftOver(): void {
    const acknowledged = new Set([
      ...this.answered.filter(isLiveAdmission).map(({ request }) => eventNameOf(request)),
      ...this.answered.filter(isCountedInShadow).map(shadowEventNameOf),
    ]);
    for (const [location, events] of this.#model.events)
      for (const { name } of events)
        if (!acknowledged.has(name)) this.#mistake(`${name} was denied, but is charged at ${location}`);
  }

  #mistake(text: string): void {
    this.mistakes.push(text);
  }
}

/** Whether live layers admitted a consume. Without live layers everything is admitted, and nothing is recorded. */
function isLiveAdmission({ op, request, decision }: AnsweredCall): boolean {
  return op === "consume" && decision.allowed && request.counters.length > 0;
}

/** Whether the event may belong to an attempt that is in flight, and belongs to no earlier decision. */
function mayBeInFlight(event: ModelEvent, charge: Charge, earlierMakers: readonly string[], atMs: number): boolean {
  const ageMs = atMs - event.atMs;
  const isSame = event.policy === charge.policy && isSameCost(event.admittedCost, charge.cost);
  const isEarlier = [...event.makers].some((maker) => earlierMakers.includes(maker));
  return isSame && !isEarlier && ageMs < event.windowMs && ageMs <= (charge.attemptMs ?? 0);
}

/** The held event, moved to the time and cost of the new event. Keeps the claims of the attempts that recorded it. */
function moved(event: ModelEvent, held: ModelEvent): ModelEvent {
  const { windowMs, retainMs, counters } = held;
  return {
    ...event,
    windowMs,
    retainMs,
    counters,
    costs: costsOf(counters, held.admittedCost),
    claims: new Set([...event.claims, ...held.claims]),
    makers: new Set([...event.makers, ...held.makers]),
  };
}

function costsOf(counters: readonly Counter[], cost: Cost): Map<string, number> {
  return new Map(counters.map(({ layer }) => [layer, costFor(cost, layer)]));
}

/** Whether the charge has all layers that took part in the event, so that no other object shares the event. */
function hasAllLayersOf({ identity }: ModelEvent, { counters }: Charge): boolean {
  const layers = identity.split(",").flatMap((pair) => pair.split("=").slice(0, -1));
  return layers.every((layer) => layer === "" || counters.some((counter) => counter.layer === layer));
}
