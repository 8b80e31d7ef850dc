import { describe, expect, test } from "vitest";
import { DenialMemory } from "../../src/object/denial-memory";
import type { Call, CallResult, ChargeVerdict } from "../../src/object/protocol";

const LIMITS = [
  { max: 5, windowMs: 60_000 },
  { max: 60, windowMs: 3_600_000 },
];
const standing = (fitsInMs: number) => ({ used: 5, fitsInMs, freesInMs: 1, resetsInMs: 1 });

function consume(key: string, attempt: string = crypto.randomUUID()): Call {
  const counters = [{ layer: "caller", key, limits: LIMITS }];
  const question = { policy: "chat", cost: 1, counters, id: "i", identity: "s", windowMs: 3_600_000, attempt };
  return { method: "consume", question };
}

function denied(atMs: number, more: Partial<ChargeVerdict> = {}): CallResult {
  const verdict = { allowed: false, standings: [[standing(1_000), standing(0)]], atMs, ...more };
  return { verdict: { ...verdict, replayed: false, conflicts: false, charged: false, ...more } };
}

const denialsOf = (memory: DenialMemory, key: string) => memory.addTo([], key, 1_000_000)[0]?.denials;
const timesOf = (memory: DenialMemory, key: string) => denialsOf(memory, key)?.denials.map(({ atMs }) => atMs);

describe("the denials that an object remembers", () => {
  test("name the limits that did not admit the cost, newest denial first", () => {
    const memory = new DenialMemory();
    memory.begin(1);
    memory.remember(consume("user:a"), denied(2));
    memory.remember(consume("user:a"), denied(3));
    const limits = [{ layer: "caller", limit: LIMITS[0], used: 5 }];
    expect(denialsOf(memory, "user:a")).toEqual({
      sinceMs: 1,
      denials: [
        { atMs: 3, policy: "chat", cost: 1, limits },
        { atMs: 2, policy: "chat", cost: 1, limits },
      ],
    });
    expect(denialsOf(memory, "user:b")).toEqual({ sinceMs: 1, denials: [] });
  });

  test("say that the counter was full, if it was", () => {
    const memory = new DenialMemory();
    const full = { ...standing(1_000), fullForMs: 1_000 };
    memory.remember(consume("user:a"), denied(2, { standings: [[standing(0), full]] }));
    expect(denialsOf(memory, "user:a")?.denials[0]?.limits).toEqual([
      { layer: "caller", limit: LIMITS[1], used: 5, isFull: true },
    ]);
  });

  test("are limits of the override, if one was in force", () => {
    const memory = new DenialMemory();
    const limits = [{ max: 1, windowMs: 1_000 }];
    const overrides = [{ kind: "limits" as const, limits, endsInMs: 1, ownFitsInMs: 0 }];
    memory.remember(consume("user:a"), denied(2, { standings: [[standing(9)]], overrides }));
    expect(denialsOf(memory, "user:a")?.denials[0]?.limits).toEqual([
      { layer: "caller", limit: limits[0], used: 5, override: "limits" },
    ]);
  });

  test("are only consumes that the object denied by its limits, each once", () => {
    const memory = new DenialMemory();
    memory.remember(consume("user:a"), denied(1, { allowed: true }));
    memory.remember(consume("user:a"), denied(2, { conflicts: true }));
    memory.remember(consume("user:a"), denied(3, { standings: [[standing(0), standing(0)]] }));
    memory.remember(consume("user:a"), { error: "disk full" });
    memory.remember({ ...consume("user:a"), method: "check" } as Call, denied(4));
    expect(timesOf(memory, "user:a")).toEqual([]);
    memory.remember(consume("user:a", "sent twice"), denied(5));
    memory.remember(consume("user:a", "sent twice"), denied(6));
    expect(timesOf(memory, "user:a")).toEqual([6]);
    const { question } = consume("user:a");
    memory.remember({ method: "check", question: { ...question, cacheMs: 1_000 } }, denied(7));
    expect(timesOf(memory, "user:a")).toEqual([7, 6]);
  });

  test("are bounded by key, and by keys: what made room is told to be unknown", () => {
    const memory = new DenialMemory(2, 2);
    memory.begin(0);
    for (let atMs = 1; atMs <= 4; atMs++) memory.remember(consume("user:a"), denied(atMs));
    expect(denialsOf(memory, "user:a")).toMatchObject({ sinceMs: 0, denials: [{ atMs: 4 }, { atMs: 3 }] });
    memory.remember(consume("user:b"), denied(5));
    memory.remember(consume("user:a"), denied(6));
    memory.remember(consume("user:c"), denied(7));
    expect(denialsOf(memory, "user:b")).toEqual({ sinceMs: 5, denials: [] });
    expect(timesOf(memory, "user:a")).toEqual([6, 4]);
  });

  test("are forgotten with their key, and told to be unknown until then", () => {
    const memory = new DenialMemory();
    memory.begin(0);
    memory.remember(consume("user:a"), denied(5));
    memory.forget("user:a");
    memory.forget("user:b");
    expect(denialsOf(memory, "user:a")).toEqual({ sinceMs: 5, denials: [] });
    expect(denialsOf(memory, "user:b")).toEqual({ sinceMs: 0, denials: [] });
    memory.remember(consume("user:a"), denied(6));
    expect(denialsOf(memory, "user:a")).toMatchObject({ sinceMs: 5, denials: [{ atMs: 6 }] });
  });
});
