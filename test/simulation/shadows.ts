import type { Counter } from "../../src/object/protocol";
import { isWhole, nameOf, type Told } from "./record";

/** What layers in shadow record is another event than that of the live ones, which may be of the same key. */
export function shadowNameOf({ asked }: Told): string {
  return `${nameOf(asked)}~shadow`;
}

/** A consume that layers in shadow would have admitted too, none of which was silent: they have counted it. */
export function isCountedInShadow({ op, asked, decided }: Told): boolean {
  const isSaid = (counter: Counter) => isWhole(counter, decided.limits);
  return (
    op === "consume" && decided.allowed && !decided.wouldDeny && asked.shadow.length > 0 && asked.shadow.every(isSaid)
  );
}

/** What is wrong with what callers were told of layers in shadow. `isFaultless`: none of them had a reason to be silent. */
export function mistakesInShadow(told: readonly Told[], isFaultless: boolean): string[] {
  return told.filter((one) => !isTrue(one, isFaultless)).map((one) => `told of shadow: ${JSON.stringify(one.decided)}`);
}

function isTrue({ op, asked, decided }: Told, isFaultless: boolean): boolean {
  const { limits, wouldDeny, allowed, isCached } = decided;
  const inShadow = asked.policy.layers.filter(({ mode }) => mode === "shadow").map(({ name }) => name);
  if (limits.some(({ layer, isShadow }) => isShadow !== inShadow.includes(layer))) return false;
  if ((wouldDeny === undefined) !== (inShadow.length === 0)) return op === "settle" || op === "release";
  const isTold = asked.shadow.every((counter) => isWhole(counter, limits));
  if (isFaultless && !isTold && !isCached) return false;
  // What was recorded is in use already: then it says nothing of the cost itself that it would not fit again.
  const fits = limits.every(({ isShadow, standing }) => !isShadow || standing.fitsInMs === 0);
  return wouldDeny ? !fits : fits || (allowed && op !== "check");
}
