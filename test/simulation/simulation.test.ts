import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { runHistory } from "./history";

const HISTORIES = 5_200;
const FRESH_HISTORIES = 600;

// The service logs every lost call. A history loses calls on purpose.
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

test(`${HISTORIES} histories with a network that loses, repeats and reorders keep every promise`, async () => {
  await expectSound(from(1, HISTORIES));
}, 600_000);

test(`${FRESH_HISTORIES} histories from new seeds keep every promise`, async () => {
  const first = Math.floor(Math.random() * 2 ** 31);
  console.log(`${FRESH_HISTORIES} fresh histories, from seed ${first}`);
  await expectSound(from(first, FRESH_HISTORIES));
}, 120_000);
