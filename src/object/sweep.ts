import { overrideFromText, sparedUntilMs } from "./override-text";
import type { PageStore } from "./page-store";

/** Pages looked at in one step, during which nobody is answered: a few milliseconds. */
const STEP_PAGES = 500;

/**
 * So long what has expired is kept: an object that is opened anew may find its clock put back by as much, and what counts
 * again then is still there. An id is remembered for longer than it is known by as much, too.
 */
export const CLOCK_MARGIN_MS = 60_000;

/**
 * Deletes, step by step, the pages that had expired at `sweptMs`, but for those that an override spares; `drop` is told the
 * key of each. Returns the mean expiry of those that are left, undefined when there are none.
 *
 * Looks only at pages without an event later than `beganMs`, when the sweep began. So it ends, however fast pages are
 * added meanwhile; a page that has later events has not expired.
 */
export function* sweepPages(
  store: PageStore,
  beganMs: number,
  sweptMs: number,
  drop: (key: string) => void,
): Generator<void, number | undefined> {
  let kept = 0;
  let meanExpiryMs = 0;
  let after = { key: "", slot: -1 };
  for (;;) {
    const pages = store.pagesAfter(after.key, after.slot, STEP_PAGES, beganMs);
    for (const page of pages) {
      const expiresAtMs = page.expiresAtMs > sweptMs ? page.expiresAtMs : sparedUntil(store, page);
      if (expiresAtMs > sweptMs) {
        kept += 1;
        meanExpiryMs += (expiresAtMs - meanExpiryMs) / kept;
      } else {
        drop(page.key);
        store.deletePage(page.key, page.slot);
      }
    }
    const last = pages.at(-1);
    if (!last || pages.length < STEP_PAGES) return kept > 0 ? Math.ceil(meanExpiryMs) : undefined;
    after = last;
    yield;
  }
}

/** Until when an override that is still there spares a page that has expired: 0 if none does. */
function sparedUntil(store: PageStore, { key, lastAtMs }: { readonly key: string; readonly lastAtMs: number }): number {
  const row = store.overrides.load(key);
  return row ? sparedUntilMs(overrideFromText(row.text, row.endsAtMs), lastAtMs) : 0;
}
