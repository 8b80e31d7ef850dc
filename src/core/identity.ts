/**
 * Who a decision is about, as its policy sees it: of each layer that decides, its name and a digest of the key that it
 * counts by, as text: `caller=kJ3hV0…,ip=x9Tb2q…`. It is stored with the event, and keeps apart the ids of different
 * subjects that share a key. Layers that a caller names are one digest without a name: `=kJ3hV0…`.
 */
export function identityText(digests: readonly (readonly [layer: string, digest: string])[]): string {
  return digests.map(([layer, digest]) => `${layer}=${digest}`).join();
}

/**
 * Layers in shadow make a decision of their own beside the one of the live layers, which may be of the same key. Its events
 * have the same identity, marked.
 */
const SHADOW_MARK = "~shadow";

export function inShadow(identity: string): string {
  return identity + SHADOW_MARK;
}

export function isInShadow(identity: string): boolean {
  return identity.endsWith(SHADOW_MARK);
}

/** The same identity in the other mode: where an event is found that was admitted before its layer changed modes. */
export function inOtherMode(identity: string): string {
  return isInShadow(identity) ? withoutMark(identity) : inShadow(identity);
}

/** The layers that decided; none where their names do not matter, since a caller named them. */
export function layersInIdentity(identity: string): string[] {
  return [...digestsIn(identity).keys()].filter((layer) => layer !== "");
}

/**
 * Are two decisions about one subject in one mode? They are where all layers agree that took part in both: a deploy may
 * put a layer live, add one or take one away, and old and new code run side by side.
 */
export function isSameSubject(one: string, other: string): boolean {
  if (one === other) return true;
  if (isInShadow(one) !== isInShadow(other)) return false;
  const digests = digestsIn(one);
  const common = [...digestsIn(other)].filter(([layer]) => digests.has(layer));
  return common.length > 0 && common.every(([layer, digest]) => digests.get(layer) === digest);
}

function digestsIn(identity: string): Map<string, string> {
  const pairs = withoutMark(identity)
    .split(",")
    .map((pair): [string, string] => {
      const sign = pair.indexOf("=");
      return sign < 0 ? ["", pair] : [pair.slice(0, sign), pair.slice(sign + 1)];
    });
  return new Map(pairs);
}

function withoutMark(identity: string): string {
  return isInShadow(identity) ? identity.slice(0, -SHADOW_MARK.length) : identity;
}
