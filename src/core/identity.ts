/**
 * Who a decision is about, as its policy sees it: the name of each layer that decides, with a digest of the key that it
 * counts by. `caller=kJ3hV0…,ip=x9Tb2q…`. The identity is stored with the event. It keeps apart the ids of different
 * subjects that share a key. Inline layers are one digest without a name: `=kJ3hV0…`.
 */
export function withLayer(identity: string, layer: string, digest: string): string {
  return `${identity && `${identity},`}${layer}=${digest}`;
}

/**
 * Layers in shadow make a decision of their own beside the decision of the live layers, perhaps about the same key. The mark
 * keeps their events apart.
 */
const SHADOW_MARK = "~shadow";

export function inShadow(identity: string): string {
  return identity + SHADOW_MARK;
}

export function isInShadow(identity: string): boolean {
  return identity.endsWith(SHADOW_MARK);
}

/** The same identity in the other mode. An event has it if its layer changed modes since. */
export function inOtherMode(identity: string): string {
  return isInShadow(identity) ? withoutMark(identity) : inShadow(identity);
}

/** The layers that decided. Empty for inline layers, which have no names here. */
export function layersInIdentity(identity: string): string[] {
  return [...digestsIn(identity).keys()].filter((layer) => layer !== "");
}

/**
 * Are two identities of one subject in one mode? They are if the layers that they share agree: a deploy may add or remove
 * a layer or put it live, and old and new code run side by side.
 */
export function isSameSubject(a: string, b: string): boolean {
  if (a === b) return true;
  if (isInShadow(a) !== isInShadow(b)) return false;
  const digests = digestsIn(a);
  const common = [...digestsIn(b)].filter(([layer]) => digests.has(layer));
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
