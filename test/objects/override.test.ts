import fc from "fast-check";
import { expect, test } from "vitest";
import type { Limit } from "../../src/core/limit";
import type { KeyOverride } from "../../src/core/override";
import { type Decision, decisionOf, retryAfterSeconds } from "../../src/limiter/decision";
import { Ledger } from "../../src/object/ledger";
import type { DecidingStub } from "../../src/objects/binding";
import { DirectCalls } from "../../src/objects/calls";
import { realTiming } from "../../src/objects/deadline";
import { FanOut } from "../../src/objects/fan-out";
import { objectOf } from "../../src/objects/placement";
import { Oracle } from "../../tools/oracle";
import { Disk } from "../simulation/disk";

const LAYERS: readonly { name: string; limits: readonly Limit[] }[] = [
  {
    name: "caller",
    limits: [
      { max: 3, windowMs: 2_000 },
      { max: 8, windowMs: 7_000 },
    ],
  },
  { name: "address", limits: [{ max: 20, windowMs: 20_000 }] },
];
const POLICY = { name: "chat", layers: LAYERS.map((layer) => ({ ...layer, by: [], mode: "live" as const })) };
const ID_WINDOW_MS = 20_000;
/** Small, so that overrides have windows which reach behind what is kept without them. */
const CLOCK_MARGIN_MS = 1_000;

/** Lower and higher ones, narrower and wider, some wider than any of the policy: at least one of each layer's own fits. */
const OTHER_LIMITS: readonly (readonly Limit[])[] = [
  [{ max: 1, windowMs: 1_000 }],
  [{ max: 30, windowMs: 5_000 }],
  [
    { max: 2, windowMs: 2_000 },
    { max: 4, windowMs: 11_000 },
  ],
  [{ max: 6, windowMs: 45_000 }],
];

const step = fc.oneof(
  { weight: 10, arbitrary: fc.record({ do: fc.constant("consume" as const), cost: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("advance" as const),
      ms: fc.oneof(fc.constantFrom(0, 1, 999, 1_000, 2_000), fc.integer({ min: 0, max: 5_000 })),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("override" as const),
      key: fc.nat({ max: 1 }),
      kind: fc.constantFrom("limits", "limits", "exempt", "ban"),
      layers: fc.tuple(fc.option(fc.constantFrom(...OTHER_LIMITS)), fc.option(fc.constantFrom(...OTHER_LIMITS))),
      forMs: fc.oneof(fc.constantFrom(1, 1_000, 2_000), fc.integer({ min: 1, max: 15_000 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("lift" as const), key: fc.nat({ max: 1 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("evict" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("sweep" as const) }) },
);

/** Objects by name, each a real ledger over a disk of its own, which can be dropped from memory. */
class Objects {
  nowMs = 1_700_000_000_000;
  readonly #disks = new Map<string, Disk>();
  readonly #ledgers = new Map<string, Ledger>();

  ledger(name: string): Ledger {
    const disk = this.#disks.get(name) ?? new Disk();
    this.#disks.set(name, disk);
    const ledger = this.#ledgers.get(name) ?? new Ledger(disk, undefined, undefined, CLOCK_MARGIN_MS);
    this.#ledgers.set(name, ledger);
    return ledger;
  }

  evict(): void {
    this.#ledgers.clear();
  }

  sweep(): void {
    for (const ledger of this.#ledgers.values()) for (const _ of ledger.sweep(this.nowMs));
  }

  getByName(name: string): DecidingStub {
    return { decide: async (calls) => this.ledger(name).decide(calls, this.nowMs) };
  }
}

/** What an instant asks of a counter, word for word: nothing clever, and no code of what it judges. */
class JudgedCounter {
  readonly oracle = new Oracle();
  /** What the counter kept when it was overridden: events from this instant on. */
  #sparedFromMs = Number.POSITIVE_INFINITY;

  constructor(
    private readonly layer: (typeof LAYERS)[number],
    private readonly override: () => KeyOverride | undefined,
  ) {}

  /** Does the cost fit at an instant, by what is kept now? */
  fitsAt(tMs: number, cost: number, nowMs: number): boolean {
    const override = this.override();
    const kept = this.keptAt(nowMs);
    if (override && tMs < override.endsAtMs) {
      if (override.kind === "ban") return false;
      if (override.kind === "exempt") return true;
      const other = this.#limitsOf(override);
      if (other) return other.every((limit) => this.oracle.fits(cost, tMs, limit, kept));
    }
    return this.layer.limits.every((limit) => this.oracle.fits(cost, tMs, limit, kept));
  }

  keptAt(nowMs: number): Oracle["events"] {
    const kept = this.oracle.keptAt(nowMs);
    const override = this.override();
    const limits = override && nowMs < override.endsAtMs ? (this.#limitsOf(override) ?? []) : [];
    const widestMs = Math.max(0, ...limits.map(({ windowMs }) => windowMs));
    const isSpared = (atMs: number) => atMs >= this.#sparedFromMs && atMs > nowMs - widestMs;
    return this.oracle.events.filter((event) => kept.includes(event) || isSpared(event.atMs));
  }

  /** An override is about to take the place of the one that there is. */
  keepFrom(nowMs: number): void {
    this.#sparedFromMs = Math.min(...this.keptAt(nowMs).map(({ atMs }) => atMs));
  }

  /** Every instant at which what fits may change. */
  changesAfter(tMs: number): number[] {
    const windows = [...this.layer.limits, ...OTHER_LIMITS.flat()].map(({ windowMs }) => windowMs);
    const leaves = this.oracle.events.flatMap(({ atMs }) => windows.map((windowMs) => atMs + windowMs));
    return [...leaves, this.override()?.endsAtMs ?? 0].filter((ms) => ms > tMs);
  }

  #limitsOf({ layers }: KeyOverride): readonly Limit[] | undefined {
    return layers?.find(({ layer }) => layer === this.layer.name)?.limits;
  }
}

test.each([
  ["of two keys, an object each", ["user:u", "ip:1"], "key"],
  ["of two keys in one object", ["user:u", "ip:1"], "shard"],
  ["of one key that two layers count by", ["ip:1", "ip:1"], "key"],
] as const)(
  "waits under overrides %s are those of an oracle that tries every instant",
  async (_, keys, placement) => {
    let judged = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 40, maxLength: 40, size: "max" }), async (history) => {
        const objects = new Objects();
        const config = {
          placement: placement === "key" ? ({ kind: "key" } as const) : ({ kind: "shards", count: 1 } as const),
          locationHint: undefined,
          deadlineMs: 1_000,
        };
        const fanOut = new FanOut(
          new DirectCalls(objects, config, realTiming),
          config,
          realTiming,
          Date.now() + 60_000,
        );
        const ledgerOf = (key: string) => objects.ledger(objectOf(key, config.placement));
        const overrides = new Map<string, KeyOverride>();
        const counters = LAYERS.map((layer, i) => ({ layer: layer.name, key: keys[i] ?? "", limits: layer.limits }));
        const judges = LAYERS.map((layer, i) => new JudgedCounter(layer, () => overrides.get(keys[i] ?? "")));

        const judge = (decision: Decision, cost: number) => {
          const { nowMs } = objects;
          judged++;
          const fitsAt = (tMs: number) => judges.every((judge) => judge.fitsAt(tMs, cost, nowMs));
          expect(decision.allowed).toBe(fitsAt(nowMs));
          let seconds = 0;
          while (!fitsAt(nowMs + seconds * 1_000)) seconds++;
          expect(retryAfterSeconds(decision)).toBe(seconds === 0 ? null : seconds);
          if (decision.allowed) return;
          for (const [i, judge] of judges.entries()) {
            const waits = decision.limits.filter(({ layer }) => layer === LAYERS[i]?.name);
            const instants = [nowMs, ...judge.changesAfter(nowMs)].sort((a, b) => a - b);
            const first = instants.find((tMs) => judge.fitsAt(tMs, cost, nowMs)) ?? Number.NaN;
            expect(Math.max(...waits.map(({ standing }) => standing.fitsInMs))).toBe(first - nowMs);
          }
        };

        for (const one of history) {
          const { nowMs } = objects;
          if (one.do === "advance") objects.nowMs += one.ms;
          if (one.do === "evict") objects.evict();
          if (one.do === "sweep") objects.sweep();
          if (one.do === "lift") {
            const key = keys[one.key] ?? "";
            ledgerOf(key).liftOverride(key, nowMs);
            overrides.delete(key);
          }
          if (one.do === "override") {
            const key = keys[one.key] ?? "";
            const kind = one.kind as KeyOverride["kind"];
            const layers = one.layers.flatMap((limits, i) =>
              limits ? [{ policy: "chat", layer: LAYERS[i]?.name ?? "", limits }] : [],
            );
            for (const [i, judge] of judges.entries()) if (keys[i] === key) judge.keepFrom(nowMs);
            const set = { kind, reason: "r", ...(kind === "limits" && { layers }) };
            overrides.set(key, ledgerOf(key).setOverride(key, { ...set, ends: { inMs: one.forMs } }, nowMs));
            expect(overrides.get(key)?.endsAtMs).toBe(nowMs + one.forMs);
          }
          if (one.do === "consume") {
            const { cost } = one;
            const asked = { policy: POLICY, cost, counters, shadow: [], identity: "s" };
            const question = { policy: "chat", cost, counters };
            judge(decisionOf(asked, await fanOut.check(question)), cost);
            const charge = { ...question, id: crypto.randomUUID(), identity: "s", windowMs: ID_WINDOW_MS };
            const answer = await fanOut.consume(charge, { waitUntil: () => {}, isNew: true });
            if (!answer.allowed) judge(decisionOf(asked, answer), cost);
            // An event is kept for the widest window of the limits in force for any of its key's counters.
            for (const [i, judge] of judges.entries()) {
              if (!answer.allowed) continue;
              const override = overrides.get(keys[i] ?? "");
              const inForce = override && nowMs < override.endsAtMs ? (override.layers ?? []) : [];
              const counted = inForce.filter(({ layer }) =>
                LAYERS.some(({ name }, l) => name === layer && keys[l] === keys[i]),
              );
              const windows = counted.flatMap(({ limits }) => limits.map(({ windowMs }) => windowMs));
              judge.oracle.record(nowMs, cost, Math.max(ID_WINDOW_MS + CLOCK_MARGIN_MS, ...windows));
            }
          }
        }
      }),
      { numRuns: 150 },
    );
    expect(judged).toBeGreaterThan(2_000);
  },
  120_000,
);
