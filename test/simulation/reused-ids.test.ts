import { expect, test } from "vitest";
import { Ledger } from "../../src/object/ledger";
import type { Call, CallResult } from "../../src/object/protocol";
import { Chance } from "../../tools/chance";
import { Disk } from "./disk";

const LIMITS = [{ max: 1_000, windowMs: 1_000 }];
const IDS = Array.from({ length: 60 }, (_, i) => `job-${i}`);

test.each([0, 5_000])(
  "charges an id once and settles it when it returns after its window on a reused slot, with a clock margin of %d ms",
  (clockMarginMs) => {
    const chance = new Chance(1);
    const ledger = new Ledger(new Disk(), undefined, 150, clockMarginMs);
    const counters = [{ layer: "user", key: "user:u", limits: LIMITS }];
    const question = (id: string) => ({ id, identity: "user=u", policy: "jobs", cost: 1, counters });
    const consume = (id: string): Call => ({
      method: "consume",
      question: { ...question(id), windowMs: 1_000, attempt: String(chance.next()), isOnlyPart: true },
    });
    const decide = (calls: readonly Call[], nowMs: number) =>
      ledger.decide(calls, nowMs).map((result: CallResult) => {
        if ("error" in result) throw new Error(result.error);
        return result.verdict;
      });
    for (
      let round = 0, nowMs = 1_800_000_000_000;
      round < 150;
      round++, nowMs += chance.of([999, 1_000, 3_000, 9_000])
    ) {
      const all = [...IDS, ...Array.from({ length: 40 }, (_, i) => `${round}-${i}`)];
      const shuffled = all.map((id) => ({ id, order: chance.next() })).sort((a, b) => a.order - b.order);
      decide(
        shuffled.map(({ id }) => consume(id)),
        nowMs,
      );
      const replays = decide(IDS.map(consume), nowMs);
      expect(replays.filter((verdict) => !("replayed" in verdict && verdict.replayed))).toEqual([]);
      // Besides this round's 100 events, the 40 single ones of the round before may still be in the window for 1 ms.
      expect(replays[0]?.standings[0]?.[0]?.used).toBeLessThanOrEqual(100 + 40);
      const settled = decide(
        IDS.map((id) => ({ method: "settle" as const, question: { ...question(id), cost: 1 } })),
        nowMs,
      );
      expect(settled.filter((verdict) => !("found" in verdict && verdict.found))).toEqual([]);
    }
  },
  60_000,
);
