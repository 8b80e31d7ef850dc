import type { Counter } from "../../src/object/protocol";
import { type AnsweredCall, eventNameOf, hasEveryLimit } from "./record";

/** Names the event that layers in shadow record. It differs from the event of the live layers, even in the same key. */
export function shadowEventNameOf({ request }: AnsweredCall): string {
  return `${eventNameOf(request)}~shadow`;
}

/** Whether all layers in shadow recorded the consume: each was reachable and would have admitted it. */
export function isCountedInShadow({ op, request, decision }: AnsweredCall): boolean {
  const isReported = (counter: Counter) => hasEveryLimit(counter, decision.limits);
  return (
    op === "consume" &&
    decision.allowed &&
    !decision.wouldDeny &&
    request.shadow.length > 0 &&
    request.shadow.every(isReported)
  );
}

/** Answers that are wrong about layers in shadow. In a faultless history no such layer may be left out. */
export function mistakesInShadow(answered: readonly AnsweredCall[], isFaultless: boolean): string[] {
  return answered
    .filter((call) => !isRight(call, isFaultless))
    .map(({ decision }) => `wrong about layers in shadow: ${JSON.stringify(decision)}`);
}

function isRight({ op, request, decision }: AnsweredCall, isFaultless: boolean): boolean {
  const { limits, wouldDeny, allowed, isCached } = decision;
  const shadowLayers = request.policy.layers.filter(({ mode }) => mode === "shadow").map(({ name }) => name);
  if (limits.some(({ layer, isShadow }) => isShadow !== shadowLayers.includes(layer))) return false;
  if ((wouldDeny === undefined) !== (shadowLayers.length === 0)) return op === "settle" || op === "release";
  const isReported = request.shadow.every((counter) => hasEveryLimit(counter, limits));
  if (isFaultless && !isReported && !isCached) return false;
  // A cost that was just recorded is in use already, so its waits do not tell whether it fitted before.
  const fits = limits.every(({ isShadow, standing }) => !isShadow || standing.fitsInMs === 0);
  return wouldDeny ? !fits : fits || (allowed && op !== "check");
}
