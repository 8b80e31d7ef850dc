import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { runCountingHistory } from "./counting";

const HISTORIES = 300;

// The service logs every call that fails. A history has calls fail on purpose.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

test(`in ${HISTORIES} histories of isolates that count, sums that are sent again are counted once, and totals never go down`, async () => {
  const fresh = Math.floor(Math.random() * 2 ** 31);
  for (let i = 0; i < HISTORIES; i++) {
    const seed = i < HISTORIES / 2 ? i : fresh + i;
    const mistakes = await runCountingHistory(seed);
    if (mistakes.length > 0) expect.fail(`seed ${seed}:\n${mistakes.join("\n")}`);
  }
});
