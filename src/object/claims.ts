import type { Account } from "./account";
import type { PagedEvent } from "./page";

/** Attempts that can rely on one event and still have it taken back: with more at once, it stays. */
const MOST_CLAIMS = 32;
const FOR_GOOD = "*";

/** An attempt that replays an event relies on it from now on, whatever becomes of the attempt that recorded it. */
export function layClaim(account: Account, event: PagedEvent, attempt: string): void {
  const { claims } = event;
  if (claims.includes(attempt) || claims.length > MOST_CLAIMS) return;
  account.replace(event, { ...event, claims: [...claims, claims.length < MOST_CLAIMS ? attempt : FOR_GOOD] });
}

/** An attempt relies on an event no longer, which goes when it was the last one to. */
export function liftClaim(account: Account, event: PagedEvent, attempt: string): void {
  if (!event.claims.includes(attempt)) return;
  const claims = event.claims.filter((claim) => claim !== attempt);
  account.replace(event, claims.length > 0 ? { ...event, claims } : undefined);
}
