import fc from "fast-check";
import { expect, test } from "vitest";
import { type Limit, longestWindowMs } from "../../src/core/limit";
import type { Charge } from "../../src/object/protocol";
import { Store } from "../../src/object/store/store";
import { Oracle } from "../../tools/oracle";
import { charge, inside, newObject, START_MS, TestLedger } from "./ledger";

test("decides like the oracle over real storage, many keys, evictions and a clock that jumps both ways", async () => {
  /** Narrow limits are used up again and again, on charged page a key. Wide limits have events on many pages. */
  const narrow: Limit[] = [
    { max: 7, windowMs: 2_000 },
    { max: 40, windowMs: 20_000 },
    { kind: "concurrent", max: 9, windowMs: 20_000 },
  ];
  const wide: Limit[] = [
    { max: 60, windowMs: 2_000 },
    { max: 2_000, windowMs: 200_000 },
    { kind: "concurrent", max: 130, windowMs: 200_000 },
  ];
  const step = fc.record({
    key: fc.nat({ max: 3 }),
    other: fc.nat({ max: 3 }),
    cost: fc.integer({ min: 1, max: 4 }),
    advanceMs: fc.oneof(fc.constantFrom(0, 0, 1, 1_999, 2_000), fc.integer({ min: -3_000, max: 4_000 })),
    afterwards: fc.oneof(
      { weight: 12, arbitrary: fc.constant("nothing") },
      { weight: 8, arbitrary: fc.constantFrom("release", "settle") },
      { weight: 4, arbitrary: fc.constantFrom("rollBack", "evict", "sweep", "forget") },
    ),
    /** How many admissions ago the event to release or settle was admitted. */
    back: fc.nat({ max: 40 }),
  });
  await inside(newObject(), (storage) => {
    fc.assert(
      fc.property(
        fc.constantFrom(narrow, wide),
        fc.array(step, { minLength: 300, maxLength: 300, size: "max" }),
        fc.constantFrom(10, 100, undefined),
        (limits, history, mostEvents) => {
          storage.sql.exec("DROP TABLE IF EXISTS pages_v1");
          const open = () => new TestLedger(new Store(storage), undefined, undefined, undefined, mostEvents);
          let ledger = open();
          const oracles = new Map<string, Oracle>();
          const oracleOf = (key: string) =>
            oracles.get(key) ?? (oracles.set(key, new Oracle(mostEvents)).get(key) as Oracle);
          const admitted: Charge[] = [];
          let wallMs = START_MS;
          let lastMs = 0;
          for (const { key, other, cost, advanceMs, afterwards, back } of history) {
            wallMs += advanceMs;
            const keys = [...new Set([`user:${key}`, `ip:${other}`])];
            const charged = charge(
              keys.map((key) => ({ layer: "caller", key, limits })),
              cost,
            );
            const verdict = ledger.consume(charged, wallMs);
            // After an eviction the last time used is that of the newest event. Exactness needs no more.
            expect(verdict.atMs).toBeGreaterThanOrEqual(wallMs);
            expect(verdict.atMs).toBeGreaterThanOrEqual(lastMs);
            lastMs = verdict.atMs;
            expect(verdict.allowed).toBe(
              keys.every(
                (key) =>
                  oracleOf(key).fullForMs(verdict.atMs) === 0 &&
                  limits.every((limit) => oracleOf(key).fits(cost, verdict.atMs, limit)),
              ),
            );
            if (verdict.allowed) {
              admitted.push(charged);
              for (const key of keys) oracleOf(key).record(verdict.atMs, cost, longestWindowMs(limits), charged.id);
            }
            keys.forEach((key, k) => {
              expect(verdict.standings[k]).toEqual(oracleOf(key).standings(limits, cost, verdict.atMs));
            });
            const changed = admitted.at(-1 - back);
            if (changed && afterwards === "release") ledger.release(changed, wallMs);
            if (changed && afterwards === "settle") ledger.settle({ ...changed, cost: cost - 1 }, wallMs);
            for (const { key } of changed?.counters ?? [])
              for (const event of oracleOf(key).events)
                if (event.id === changed?.id && event.atMs > lastMs - longestWindowMs(limits)) {
                  if (afterwards === "release") event.released = true;
                  if (afterwards === "settle") event.cost = cost - 1;
                }
            if (afterwards === "rollBack" && verdict.allowed) {
              ledger.rollBack(charged, wallMs);
              admitted.pop();
              for (const key of keys) oracleOf(key).events.pop();
            }
            if (afterwards === "evict") {
              ledger = open();
              lastMs = 0;
            }
            if (afterwards === "sweep") for (const _ of ledger.sweep(wallMs));
            if (afterwards === "forget") {
              ledger.forget(`user:${key}`);
              oracles.delete(`user:${key}`);
            }
          }
        },
      ),
      { numRuns: 30 },
    );
  });
}, 60_000);
