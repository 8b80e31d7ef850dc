import fc from "fast-check";
import { expect, test } from "vitest";
import type { Limit } from "../../src/core/limit";
import type { KeyOverride } from "../../src/core/override";
import { Policy } from "../../src/core/policy";
import { type Decision, decisionOf, retryAfterSeconds } from "../../src/limiter/decision";
import { Asker, type ConsumeVerdict } from "../../src/objects/asker";
import type { DecidingStub } from "../../src/objects/binding";
import { DirectCalls, type Hearer, heard } from "../../src/objects/calls";
import { FanOut } from "../../src/objects/fan-out";
import { objectOf } from "../../src/objects/placement";
import { realTiming } from "../../src/objects/timing";
import { Oracle } from "../../tools/oracle";
import { Ledgers } from "../simulation/ledgers";

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
const POLICY = new Policy(
  "chat",
  LAYERS.map((layer) => ({ ...layer, by: [], mode: "live" as const })),
);
const ID_WINDOW_MS = 20_000;
/** Small, so that the windows of overrides reach further back than the retention without them. */
const CLOCK_MARGIN_MS = 1_000;

/** Limits of overrides: lower and higher, narrower and wider, some wider than any window of the policy. */
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
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** A counter under overrides, defined instant by instant, without any code that it judges. */
class JudgedCounter {
  readonly oracle = new Oracle();
  /** The counter kept events from this instant on when the override was set. */
  #sparedFromMs = Number.POSITIVE_INFINITY;

  constructor(
    private readonly layer: (typeof LAYERS)[number],
    private readonly override: () => KeyOverride | undefined,
  ) {}

  /** Will the cost fit at the instant `tMs`, given the events that are kept now? */
  fitsAt(tMs: number, cost: number, nowMs: number): boolean {
    const override = this.override();
    const kept = this.keptAt(nowMs);
    if (override && tMs < override.endsAtMs) {
      if (override.kind === "ban") return false;
      if (override.kind === "exempt") return true;
      const limits = this.#limitsOf(override);
      if (limits) return limits.every((limit) => this.oracle.fits(cost, tMs, limit, kept));
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

  /** A new override is about to be set. */
  keepFrom(nowMs: number): void {
    this.#sparedFromMs = Math.min(...this.keptAt(nowMs).map(({ atMs }) => atMs));
  }

  /** Every instant at which a cost may begin or cease to fit. */
  changesAfter(tMs: number): number[] {
    const windows = [...this.layer.limits, ...OTHER_LIMITS.flat()].map(({ windowMs }) => windowMs);
    const leaves = this.oracle.events.flatMap(({ atMs }) => windows.map((windowMs) => atMs + windowMs));
    return [...leaves, this.override()?.endsAtMs ?? 0].filter((ms) => ms > tMs);
  }

  #limitsOf({ layers }: KeyOverride): readonly Limit[] | undefined {
    return layers?.find(({ layer }) => layer === this.layer.name)?.limits;
  }
}

const CONFIGS = {
  key: { placement: { kind: "key" }, locationHint: undefined, deadlineMs: 1_000 },
  shard: { placement: { kind: "shards", count: 1 }, locationHint: undefined, deadlineMs: 1_000 },
} as const;

/** Two layers that count by these keys, and a judge for each. */
class JudgedPolicy {
  /** How many decisions were judged. */
  judged = 0;
  #nowMs = 1_700_000_000_000;
  readonly #ledgers = new Ledgers(CLOCK_MARGIN_MS);
  readonly #overrides = new Map<string, KeyOverride>();
  readonly #fanOut: FanOut;
  readonly #judges = LAYERS.map((layer, i) => new JudgedCounter(layer, () => this.#overrides.get(this.#key(i))));

  constructor(
    private readonly keys: readonly string[],
    private readonly config: (typeof CONFIGS)[keyof typeof CONFIGS],
  ) {
    const getByName = (object: string): DecidingStub => ({
      decide: async (calls) => this.#ledgers.decide(object, calls, this.#nowMs),
    });
    const calls = new DirectCalls({ getByName }, config, realTiming);
    this.#fanOut = new FanOut(calls, config, realTiming);
  }

  async take(step: Step): Promise<void> {
    if (step.do === "advance") this.#nowMs += step.ms;
    if (step.do === "evict") this.#ledgers.evict();
    if (step.do === "sweep") this.#ledgers.sweep(this.#nowMs);
    if (step.do === "lift") {
      const key = this.#key(step.key);
      this.#ledgerOf(key).liftOverride(key, this.#nowMs);
      this.#overrides.delete(key);
    }
    if (step.do === "override") this.#override(step);
    if (step.do === "consume") await this.#consume(step.cost);
  }

  #override({ key: index, kind: someKind, layers: limitsOfLayers, forMs }: Step & { readonly do: "override" }): void {
    const key = this.#key(index);
    const kind = someKind as KeyOverride["kind"];
    const layers = limitsOfLayers.flatMap((limits, i) =>
      limits ? [{ policy: "chat", layer: LAYERS[i]?.name ?? "", limits }] : [],
    );
    for (const [i, judge] of this.#judges.entries()) if (this.#key(i) === key) judge.keepFrom(this.#nowMs);
    const toSet = { kind, reason: "r", ...(kind === "limits" && { layers }), ends: { inMs: forMs } };
    const override = this.#ledgerOf(key).setOverride(key, toSet, this.#nowMs);
    this.#overrides.set(key, override);
    expect(override.endsAtMs).toBe(this.#nowMs + forMs);
  }

  async #consume(cost: number): Promise<void> {
    const counters = LAYERS.map(({ name, limits }, i) => ({ layer: name, key: this.#key(i), limits }));
    const request = { policy: POLICY, cost, counters, shadow: [], identity: "s" };
    const question = { policy: "chat", cost, counters };
    const giveUpAtMs = Date.now() + 60_000;
    const asker = new Asker("a", 0, giveUpAtMs, "refuse");
    this.#judge(decisionOf(request, await this.#fanOut.check(question, asker)), cost);
    const id = crypto.randomUUID();
    const charge = { ...question, id, identity: "s", aliases: [], windowMs: ID_WINDOW_MS, attemptMs: 2_000 };
    const ask = (hearer: Hearer<ConsumeVerdict>) => this.#fanOut.consume(charge, asker, false, hearer);
    const verdict = await heard(ask);
    if (verdict.allowed) this.#record(cost);
    else this.#judge(decisionOf(request, verdict), cost);
  }

  /** An event is kept for the widest window of the limits in force for any of its key's counters. */
  #record(cost: number): void {
    for (const [i, judge] of this.#judges.entries()) {
      const override = this.#overrides.get(this.#key(i));
      const inForce = override && this.#nowMs < override.endsAtMs ? (override.layers ?? []) : [];
      const ofSameKey = inForce.filter(({ layer }) =>
        LAYERS.some(({ name }, l) => name === layer && this.#key(l) === this.#key(i)),
      );
      const windows = ofSameKey.flatMap(({ limits }) => limits.map(({ windowMs }) => windowMs));
      judge.oracle.record(this.#nowMs, cost, Math.max(ID_WINDOW_MS + CLOCK_MARGIN_MS, ...windows));
    }
  }

  #judge(decision: Decision, cost: number): void {
    const nowMs = this.#nowMs;
    this.judged++;
    const fitsAt = (tMs: number) => this.#judges.every((judge) => judge.fitsAt(tMs, cost, nowMs));
    expect(decision.allowed).toBe(fitsAt(nowMs));
    let seconds = 0;
    while (!fitsAt(nowMs + seconds * 1_000)) seconds++;
    expect(retryAfterSeconds(decision)).toBe(seconds === 0 ? null : seconds);
    if (decision.allowed) return;
    for (const [i, judge] of this.#judges.entries()) {
      const limits = decision.limits.filter(({ layer }) => layer === LAYERS[i]?.name);
      const instants = [nowMs, ...judge.changesAfter(nowMs)].sort((a, b) => a - b);
      const first = instants.find((tMs) => judge.fitsAt(tMs, cost, nowMs)) ?? Number.NaN;
      expect(Math.max(...limits.map(({ standing }) => standing.fitsInMs))).toBe(first - nowMs);
    }
  }

  #key(index: number): string {
    return this.keys[index] ?? "";
  }

  #ledgerOf(key: string) {
    return this.#ledgers.of(objectOf(key, this.config.placement));
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
        const policy = new JudgedPolicy(keys, CONFIGS[placement]);
        for (const step of history) await policy.take(step);
        judged += policy.judged;
      }),
      { numRuns: 150 },
    );
    expect(judged).toBeGreaterThan(2_000);
  },
  120_000,
);
