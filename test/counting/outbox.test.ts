import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Outbox } from "../../src/counting/outbox";
import type { Sums } from "../../src/counting/protocol";
import { RunningSums } from "../../src/counting/running-sums";
import { countIn } from "../../src/counting/tally";

const MINUTE_MS = 60_000;
let nowMs: number;
let isBroken: boolean;
let delivered: Sums[];

/** An outbox that always has one more consume to send, on a clock that stands still. `random`: the jitter, 0.5 is none. */
function newOutbox(random = 0.5): Outbox {
  const take = () => {
    const sums = new RunningSums();
    countIn(sums.tallies, "chat", "allowed");
    return sums.toSums();
  };
  const deliver = async (sums: Sums) => {
    delivered.push(sums);
    if (isBroken) throw new Error("gone");
  };
  return new Outbox(take, deliver, () => {}, { now: () => nowMs, random: () => random, after: () => () => {} });
}

const sequences = () => delivered.map(({ id }) => id?.sequence);

beforeEach(() => {
  [nowMs, isBroken, delivered] = [0, true, []];
  vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => void vi.restoreAllMocks());

test("sums that were not acknowledged are sent again as they are, before any others", async () => {
  const outbox = newOutbox();
  for (let i = 0; i < 3; i++) await outbox.send();
  isBroken = false;
  await outbox.send();
  expect(sequences()).toEqual([1, 1, 1, 1, 2]);
  expect(new Set(delivered.slice(0, 4)).size).toBe(1);
  expect(outbox.isEmpty).toBe(true);
});

test("the pause after failures doubles from ten seconds to five minutes, and is ten seconds after a success", async () => {
  const pausesMs = async (random: number) => {
    const outbox = newOutbox(random);
    const pauses: number[] = [];
    for (let i = 0; i < 7; i++) {
      isBroken = i < 6;
      await outbox.send();
      pauses.push((outbox.dueMs - nowMs) / 1_000);
    }
    return pauses;
  };
  expect(await pausesMs(0.5)).toEqual([10, 20, 40, 80, 160, 300, 10]);
  // Jitter: isolates that failed together do not come back together.
  expect(await pausesMs(0)).toEqual([7.5, 15, 30, 60, 120, 225, 7.5]);
});

test("sums are given up before an object may have forgotten whether it has them", async () => {
  const outbox = newOutbox();
  for (nowMs = 0; nowMs <= 30 * MINUTE_MS; nowMs += MINUTE_MS) await outbox.send();
  expect(new Set(sequences())).toEqual(new Set([1]));
  await outbox.send();
  isBroken = false;
  await outbox.send();
  expect(sequences().at(-1)).toBe(2);
});
