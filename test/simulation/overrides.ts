import type { OverrideToSet } from "../../src/object/protocol";
import type { OverriddenKey } from "../../src/request/admin-schema";
import { costFor } from "./costs";
import type { Network } from "./network";
import { type AnsweredCall, eventNameOf, type OverrideChange } from "./record";

/** An admin's call to forget a key that was acknowledged. */
export interface AnsweredForget {
  readonly isolate: number;
  readonly key: string;
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
}

/** An admin's call to set or lift an override that was acknowledged. */
export interface AnsweredOverride {
  readonly isolate: number;
  readonly key: string;
  /** Undefined lifts the override. */
  readonly requested: OverrideToSet | undefined;
  /** The override in the answer. */
  readonly answered: OverriddenKey["override"] | undefined;
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
  /** How many override changes objects had made when the call was sent, and when it was answered. */
  readonly changesBefore: number;
  readonly changesAfter: number;
  /** How many executions had happened when the call was answered. */
  readonly executionsBefore: number;
}

/** Overrides that were acknowledged, though no object made the change. */
export function overridesNotMade(answered: readonly AnsweredOverride[], changes: readonly OverrideChange[]): string[] {
  return answered
    .filter((call) => !changes.slice(call.changesBefore, call.changesAfter).some((change) => isMadeBy(call, change)))
    .map(
      ({ key, answered }) =>
        `an override was acknowledged, but not made: ${key} ${JSON.stringify(answered ?? "lifted")}`,
    );
}

function isMadeBy({ key, requested, answered }: AnsweredOverride, change: OverrideChange): boolean {
  if (!change.isCommitted || change.key !== key || !isSame(change.requested, requested)) return false;
  if (answered === undefined || change.stored === undefined) return answered === change.stored;
  return answered.kind === change.stored.kind && Date.parse(answered.expires_at) === change.stored.endsAtMs;
}

/**
 * Overrides that end at a wrong instant. An override ends at the requested instant, or the requested duration after the
 * object's own time, which is at least the latest time that its clock ever showed.
 */
export function overridesWithWrongEnd({ overrideChanges, objects, machine }: Network): string[] {
  return overrideChanges
    .filter(({ object, wallMs, requested, stored }) => {
      if (!requested || !stored) return false;
      if ("atMs" in requested.ends) return stored.endsAtMs !== requested.ends.atMs;
      const lateMs = stored.endsAtMs - (wallMs + requested.ends.inMs);
      // A clock that is put back a little may show the tick before.
      return lateMs < 0 || lateMs >= 2 * (objects.get(object)?.furthestOffsetMs ?? 0) + machine.tickMs;
    })
    .map(
      ({ key, requested, stored }) =>
        `${key} was overridden ${JSON.stringify(requested?.ends)}, but until ${stored?.endsAtMs}`,
    );
}

/**
 * Consumes that were admitted under a ban. The ban was acknowledged before the consume was sent, held until its answer, and
 * no other override of the key followed in between. An event that the key held before the ban may be replayed, and a layer at a
 * cost of 0 decides nothing.
 */
export function admittedDespiteBan(
  answered: readonly AnsweredCall[],
  overrides: readonly AnsweredOverride[],
  network: Network,
): string[] {
  const furthestMs = Math.max(0, ...[...network.objects.values()].map((object) => object.furthestOffsetMs));
  const { executions, overrideChanges } = network;
  return overrides.flatMap((ban) => {
    if (ban.answered?.kind !== "ban") return [];
    const endsAtMs = Date.parse(ban.answered.expires_at);
    const isOther = ({ key, requested }: OverrideChange) => key === ban.key && !isSame(requested, ban.requested);
    const executionsUnderBan =
      overrideChanges.slice(ban.changesBefore).find(isOther)?.executionsBefore ?? Number.POSITIVE_INFINITY;
    const isHeldBefore = ({ request }: AnsweredCall) =>
      executions
        .slice(0, ban.executionsBefore)
        .some(
          ({ call }) =>
            call.method === "consume" && call.verdict.allowed && eventNameOf(call.question) === eventNameOf(request),
        );
    return answered
      .filter(({ op, decision }) => op === "consume" && decision.allowed)
      .filter(({ request: { counters, cost } }) =>
        counters.some(({ key, layer }) => key === ban.key && costFor(cost, layer) > 0),
      )
      .filter(({ executionsBefore, executionsAfter, answeredAtMs }) => {
        return (
          ban.executionsBefore <= executionsBefore &&
          executionsAfter <= executionsUnderBan &&
          answeredAtMs + furthestMs < endsAtMs
        );
      })
      .filter((call) => !isHeldBefore(call))
      .map(({ request }) => `${eventNameOf(request)} was admitted although ${ban.key} was banned`);
  });
}

function isSame(one: OverrideToSet | undefined, other: OverrideToSet | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
