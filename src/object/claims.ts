/** How many claims an event stores. With more attempts at once, the event can't be rolled back any more. */
const MOST_CLAIMS = 32;
const PERMANENT: Claim = { attempt: "*", isMaker: false, relies: true };

/** Says that an attempt dated an event, relies on it, or both. */
export interface Claim {
  readonly attempt: string;
  /** The attempt dated the event: it recorded it, or moved it to its own time. */
  readonly isMaker: boolean;
  /** The attempt relies on the event, and has not been rolled back. The event goes with the last such claim. */
  readonly relies: boolean;
}

/** Adds to the claims that `attempt` relies on the event and, if `isMaker`, dated it. Returns the same array if they say so. */
export function withClaim(claims: readonly Claim[], attempt: string, isMaker: boolean): readonly Claim[] {
  if (claims.length === 0) return [{ attempt, isMaker, relies: true }];
  const own = claims.find((claim) => claim.attempt === attempt);
  if (own?.relies && (own.isMaker || !isMaker)) return claims;
  if (own)
    return claims.map((claim) => (claim === own ? { attempt, isMaker: isMaker || own.isMaker, relies: true } : claim));
  const claim = { attempt, isMaker, relies: true };
  if (claims.length < MOST_CLAIMS) return [...claims, claim];
  // The permanent claim stands for all that have no place. Makers go before others: recognition needs them.
  const kept = claims.includes(PERMANENT) ? claims : [...claims, PERMANENT];
  const dispensable = isMaker ? kept.findIndex((claim) => !claim.isMaker && claim !== PERMANENT) : -1;
  return dispensable < 0 ? kept : kept.with(dispensable, claim);
}

/** The claims once `attempt` does not rely on the event any more. Undefined if no attempt does: then the event goes. */
export function withoutClaim(claims: readonly Claim[], attempt: string): readonly Claim[] | undefined {
  const left = claims.flatMap((claim) => {
    if (claim.attempt !== attempt) return claim;
    // The others rely on an event that this attempt dated.
    return claim.isMaker ? { ...claim, relies: false } : [];
  });
  return left.some(({ relies }) => relies) ? left : undefined;
}

/** A call may need several attempts: `a`, `a.2`, `a.3`. */
export function isOfOneCall(a: string, b: string): boolean {
  return a.split(".")[0] === b.split(".")[0];
}

export function makersOf(claims: readonly Claim[]): string[] {
  return claims.filter(({ isMaker }) => isMaker).map(({ attempt }) => attempt);
}

/** A claim as stored: `a` dated the event and relies on it, `+a` only relies on it, `-a` only dated it. */
export function claimText({ attempt, isMaker, relies }: Claim): string {
  if (!isMaker) return `+${attempt}`;
  return relies ? attempt : `-${attempt}`;
}

export function claimsIn(texts: readonly string[]): Claim[] {
  return texts.map((text) => {
    if (text.startsWith("+"))
      return text === "+*" ? PERMANENT : { attempt: text.slice(1), isMaker: false, relies: true };
    if (text.startsWith("-")) return { attempt: text.slice(1), isMaker: true, relies: false };
    return { attempt: text, isMaker: true, relies: true };
  });
}
