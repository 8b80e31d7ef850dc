import { overrideFromText, sparedUntilMs } from "./override-text";
import type { PageStore } from "./page-store";

/** How many pages a step looks at. Calls wait for a step, which takes a few milliseconds. */
const STEP_PAGES = 500;

/**
 * How much longer than its expiry a page is kept, and an id than it is known. When an object starts again, its clock may be
 * behind by this much: events that count again by then are still there.
 */
export const CLOCK_MARGIN_MS = 60_000;

/**
 * Deletes the pages that had expired at `sweptMs`, except those that an override spares. Calls `drop` with the key of each
 * page that is deleted. Returns the mean expiry of the pages that are left, undefined if there are none.
 *
 * Looks only at pages without an event later than `beganMs`, when the sweep began. So it ends, however fast pages are added
 * meanwhile. A page with a later event has not expired.
 */
export function* sweepPages(
  store: PageStore,
  beganMs: number,
  sweptMs: number,
  drop: (key: string) => void,
): Generator<void, number | undefined> {
  let keptPages = 0;
  let meanExpiryMs = 0;
  let pages = store.pagesAfter("", -1, STEP_PAGES, beganMs);
  for (let last = pages.at(-1); last; last = pages.at(-1)) {
    for (const page of pages) {
      const expiresAtMs = page.expiresAtMs > sweptMs ? page.expiresAtMs : sparedUntilMsOf(store, page);
      if (expiresAtMs > sweptMs) {
        keptPages += 1;
        meanExpiryMs += (expiresAtMs - meanExpiryMs) / keptPages;
      } else {
        drop(page.key);
        store.deletePage(page.key, page.slot);
      }
    }
    if (pages.length < STEP_PAGES) break;
    yield;
    pages = store.pagesAfter(last.key, last.slot, STEP_PAGES, beganMs);
  }
  return keptPages > 0 ? Math.ceil(meanExpiryMs) : undefined;
}

/** How long the key's override spares a page that has expired. 0 without an override. */
function sparedUntilMsOf(
  store: PageStore,
  { key, lastAtMs }: { readonly key: string; readonly lastAtMs: number },
): number {
  const row = store.overrides.load(key);
  return row ? sparedUntilMs(overrideFromText(row.text, row.endsAtMs), lastAtMs) : 0;
}
