import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { runHistory } from "./history";

const HISTORIES = 5_200;
const FRESH_HISTORIES = 600;

// The edge logs every call that was lost: that is what is wanted here.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

async function expectSound(seeds: Iterable<number>): Promise<void> {
  for (const seed of seeds) {
    const mistakes = await runHistory(seed);
    if (mistakes.length > 0) expect.fail(`npm run simulate -- --seed ${seed}   repeats this:\n${mistakes.join("\n")}`);
  }
}

function* from(first: number, count: number): Generator<number> {
  for (let seed = first; seed < first + count; seed++) yield seed;
}

test(`${HISTORIES} histories of a network that may do anything keep every promise`, async () => {
  await expectSound(from(1, HISTORIES));
}, 600_000);

test("and so do some that nobody has seen before", async () => {
  const first = Math.floor(Math.random() * 2 ** 31);
  console.log(`${FRESH_HISTORIES} fresh histories, from seed ${first}`);
  await expectSound(from(first, FRESH_HISTORIES));
}, 120_000);
