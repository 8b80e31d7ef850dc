import type { OverrideToSet } from "../../src/object/protocol";
import type { OverriddenKey } from "../../src/request/admin-schema";
import type { Network } from "./network";
import { nameOf, type Order, type Told } from "./record";

/** A key that an admin was told is forgotten. */
export interface ToldForgetting {
  readonly isolate: number;
  readonly key: string;
  readonly askedAtMs: number;
  readonly toldAtMs: number;
}

/** An order that an admin was told is done. */
export interface ToldOrder {
  readonly isolate: number;
  readonly key: string;
  readonly asked: OverrideToSet | undefined;
  readonly told: OverriddenKey["override"] | undefined;
  readonly askedAtMs: number;
  readonly toldAtMs: number;
  /** How many orders were done when it was asked for, and when it was told. */
  readonly before: number;
  readonly after: number;
  /** How many deeds there were when it was told. */
  readonly deedsBefore: number;
}

/** What admins were told, and objects did not do. */
export function undoneIn(told: readonly ToldOrder[], orders: readonly Order[]): string[] {
  return told
    .filter((one) => !orders.slice(one.before, one.after).some((order) => isDone(one, order)))
    .map((one) => `nobody did what was told of the override of ${one.key}: ${JSON.stringify(one.told ?? "lifted")}`);
}

function isDone({ key, asked, told }: ToldOrder, order: Order): boolean {
  if (!order.committed || order.key !== key || !isSame(order.asked, asked)) return false;
  if (told === undefined || order.set === undefined) return told === order.set;
  return told.kind === order.set.kind && Date.parse(told.expires_at) === order.set.endsAtMs;
}

/** An end is the one that was asked for, or as long after the object's own time, which is as late as its clock ever was. */
export function mistakesInEnds({ orders, objects }: Network): string[] {
  return orders
    .filter(({ object, wallMs, asked, set }) => {
      if (!asked || !set) return false;
      if ("atMs" in asked.ends) return set.endsAtMs !== asked.ends.atMs;
      const lateMs = set.endsAtMs - (wallMs + asked.ends.inMs);
      return lateMs < 0 || lateMs > 2 * (objects.get(object)?.furthestOffsetMs ?? 0);
    })
    .map(({ key, asked, set }) => `${key} was overridden ${JSON.stringify(asked?.ends)}, until ${set?.endsAtMs}`);
}

/**
 * Whoever was admitted although a ban of theirs had been acknowledged before they asked, was in force until they were
 * told, and was followed by no other order. What the key had recorded before the ban may be admitted again.
 */
export function admittedInSpiteOfBans(told: readonly Told[], bans: readonly ToldOrder[], network: Network): string[] {
  const furthestMs = Math.max(0, ...[...network.objects.values()].map((object) => object.furthestOffsetMs));
  const { deeds, orders } = network;
  return bans.flatMap((ban) => {
    if (ban.told?.kind !== "ban") return [];
    const endsAtMs = Date.parse(ban.told.expires_at);
    const isOther = ({ key, asked }: Order) => key === ban.key && !isSame(asked, ban.asked);
    const endsBy = orders.slice(ban.before).find(isOther)?.at ?? Number.POSITIVE_INFINITY;
    const isKnown = (one: Told) =>
      deeds
        .slice(0, ban.deedsBefore)
        .some(
          ({ what }) =>
            what.method === "consume" && what.verdict.allowed && nameOf(what.question) === nameOf(one.asked),
        );
    return told
      .filter(({ op, decided }) => op === "consume" && decided.allowed)
      .filter(({ asked }) => asked.counters.some(({ key }) => key === ban.key))
      .filter(({ before, after, toldAtMs }) => {
        return ban.deedsBefore <= before && after <= endsBy && toldAtMs + furthestMs < endsAtMs;
      })
      .filter((one) => !isKnown(one))
      .map((one) => `${nameOf(one.asked)} was admitted although ${ban.key} was banned`);
  });
}

function isSame(one: OverrideToSet | undefined, other: OverrideToSet | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
