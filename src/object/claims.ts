/** Attempts that one event remembers: with more at once, it stays for good. */
const MOST_CLAIMS = 32;
const FOR_GOOD: Claim = { attempt: "*", isMaker: false, relies: true };

/** What an attempt is to an event. */
export interface Claim {
  readonly attempt: string;
  /** The event counts from an instant while this attempt was made: it recorded the event, or moved it to its own time. */
  readonly isMaker: boolean;
  /** It counts on the event, which goes with the last attempt that does. */
  readonly relies: boolean;
}

/** The claims with one of `attempt` that relies on the event and, if `isMaker`, has dated it. */
export function withClaim(claims: readonly Claim[], attempt: string, isMaker: boolean): readonly Claim[] {
  const own = claims.find((claim) => claim.attempt === attempt);
  if (own?.relies && (own.isMaker || !isMaker)) return claims;
  if (own)
    return claims.map((claim) => (claim === own ? { attempt, isMaker: isMaker || own.isMaker, relies: true } : claim));
  const claim = { attempt, isMaker, relies: true };
  if (claims.length < MOST_CLAIMS) return [...claims, claim];
  // The event stays now, whoever relies on it. By whom it was dated must still be told.
  const kept = claims.includes(FOR_GOOD) ? claims : [...claims, FOR_GOOD];
  const least = isMaker ? kept.findIndex((one) => !one.isMaker && one !== FOR_GOOD) : -1;
  return least < 0 ? kept : kept.with(least, claim);
}

/** The claims when `attempt` does not rely on the event any more: undefined when nobody does, and the event goes. */
export function withoutClaim(claims: readonly Claim[], attempt: string): readonly Claim[] | undefined {
  const left = claims.flatMap((claim) => {
    if (claim.attempt !== attempt) return claim;
    // What others rely on was dated by it all the same.
    return claim.isMaker ? { ...claim, relies: false } : [];
  });
  return left.some(({ relies }) => relies) ? left : undefined;
}

/** A call may need several attempts: `a`, `a.2`, `a.3`. */
export function isOfOneCall(attempt: string, other: string): boolean {
  return attempt.split(".")[0] === other.split(".")[0];
}

export function makersOf(claims: readonly Claim[]): string[] {
  return claims.filter(({ isMaker }) => isMaker).map(({ attempt }) => attempt);
}

/** As they are stored: `a` has dated the event and relies on it, `+a` only relies on it, `-a` only has dated it. */
export function claimTexts(claims: readonly Claim[]): string[] {
  return claims.map(({ attempt, isMaker, relies }) => (isMaker ? (relies ? attempt : `-${attempt}`) : `+${attempt}`));
}

export function claimsIn(texts: readonly string[]): Claim[] {
  return texts.map((text) => {
    if (text.startsWith("+"))
      return text === "+*" ? FOR_GOOD : { attempt: text.slice(1), isMaker: false, relies: true };
    if (text.startsWith("-")) return { attempt: text.slice(1), isMaker: true, relies: false };
    return { attempt: text, isMaker: true, relies: true };
  });
}
