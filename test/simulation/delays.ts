import type { Config } from "../../src/config/config";
import { objectOf } from "../../src/objects/placement";
import type { Network } from "./network";
import { type Deed, nameOf, type Told } from "./record";

/** A call of a batch that meets no trouble: a round there and back takes 46 ms at most, and there are three of them. */
const PROMPT_MS = 250;
/** What was in trouble shortly before a call may still be when it arrives. */
const TROUBLE_MS = 100;

/**
 * Calls of a batch that had to wait for objects that they do not need: their own had no trouble. One that is denied may
 * wait for an earlier one, whose charge was in its way and may be rolled back, and may be decided again then.
 */
export function lateIn(told: readonly Told[], { objects, deeds }: Network, { placement }: Config): string[] {
  const isTroubled = (key: string, { askedAtMs, toldAtMs }: Told) =>
    objects.get(objectOf(key, placement))?.disturbedMs.some((ms) => ms > askedAtMs - TROUBLE_MS && ms <= toldAtMs);
  return told
    .filter(({ op, place, asked, decided, askedAtMs, toldAtMs }) => {
      // Whose check a deed is, and so whether it was decided again, nobody can tell.
      const isJudged = place && op !== "check" && decided.allowed && asked.shadow.length === 0;
      return isJudged && toldAtMs - askedAtMs > PROMPT_MS;
    })
    .filter((one) => !one.asked.counters.some(({ key }) => isTroubled(key, one)) && !isDecidedAgain(one, deeds))
    .map((one) => `a batch held up ${one.op} ${one.asked.id} for ${one.toldAtMs - one.askedAtMs} ms`);
}

function isDecidedAgain({ asked, before, after }: Told, deeds: readonly Deed[]): boolean {
  const objects = deeds
    .slice(before, after)
    .filter(({ what }) => what.method === "consume" && nameOf(what.question) === nameOf(asked))
    .map(({ object }) => object);
  return new Set(objects).size < objects.length;
}
