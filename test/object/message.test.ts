import fc from "fast-check";
import { expect, test } from "vitest";
import type { Limit } from "../../src/core/limit";
import { decodeCalls, decodeResults, encodeCalls, encodeResults } from "../../src/object/message";
import type { Call, CallResult, ChargeVerdict, ObjectVerdict, Question } from "../../src/object/protocol";

const limit = fc.record(
  { kind: fc.constant("concurrent" as const), max: fc.integer({ min: 1 }), windowMs: fc.integer({ min: 1_000 }) },
  { requiredKeys: ["max", "windowMs"] },
) as fc.Arbitrary<Limit>;
const name = fc.stringMatching(/^[a-z][a-z0-9_-]{0,31}$/);
const counters = fc.array(
  fc.record({
    layer: name,
    key: fc.string({ unit: "binary" }).map((text) => text.toWellFormed()),
    limits: fc.array(limit, { minLength: 1, maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 3 },
);
const id = fc.stringMatching(/^[A-Za-z0-9._~:-]{1,128}$/);
const byLayer = fc.dictionary(name, fc.nat());
const question = { policy: name, cost: fc.oneof(fc.nat(), fc.nat(), byLayer), counters };
const event = { ...question, id, identity: fc.stringMatching(/^([a-z]+=[A-Za-z0-9+/]{20}){1,2}(~shadow)?$/) };
const charge = fc.record(
  {
    ...event,
    windowMs: fc.nat(),
    attempt: fc.stringMatching(/^[a-z0-9]{1,10}(\.[23])?$/),
    isOnlyPart: fc.boolean(),
    attemptMs: fc.nat(),
    cacheMs: fc.nat(),
    recognition: fc.constantFrom("new" as const, "torn" as const, "known" as const),
    earlierMakers: fc.array(id, { minLength: 1, maxLength: 2 }),
    aliases: fc.array(id, { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: ["policy", "cost", "counters", "id", "identity", "windowMs", "attempt", "isOnlyPart"] },
);
const call = fc.oneof(
  fc.record({
    method: fc.constant("check"),
    question: fc.record({ ...question, cacheMs: fc.nat() }, { requiredKeys: ["policy", "cost", "counters"] }),
  }),
  fc.record({ method: fc.constantFrom("consume", "rollBack"), question: charge }),
  fc.record({ method: fc.constantFrom("settle", "release"), question: fc.record(event) }),
) as fc.Arbitrary<Call>;

test("every call arrives as it was sent", () => {
  fc.assert(
    fc.property(fc.array(call, { maxLength: 8 }), (calls) => {
      expect(decodeCalls(encodeCalls(calls))).toEqual(calls);
    }),
  );
});

test("every result arrives as it was sent, and to its call", () => {
  const wait = fc.oneof(fc.nat(), fc.constant(Number.POSITIVE_INFINITY));
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(call, fc.boolean(), fc.array(fc.nat(), { minLength: 9, maxLength: 9 }), wait, fc.nat({ max: 7 })),
        { maxLength: 6 },
      ),
      (sent) => {
        const calls = sent.map(([call]) => call);
        const results = sent.map(([call, isFlag, numbers, fitsInMs, rest]): CallResult => {
          if (rest === 7) return { error: "no room" };
          const [used = 0, freesInMs = 0, resetsInMs = 0] = numbers;
          const verdict: ObjectVerdict = {
            allowed: isFlag,
            atMs: 1_800_000_000_000,
            standings: call.question.counters.map(({ limits }) =>
              limits.map((_, l) => ({
                used: used + l,
                fitsInMs,
                freesInMs,
                resetsInMs,
                ...(rest === 6 && { fullForMs: fitsInMs }),
              })),
            ),
            ...(rest === 1 && { overrides: call.question.counters.map(() => null) }),
            ...(rest === 2 && { leavings: call.question.counters.map(({ limits }) => limits.map(() => [1, 2])) }),
          };
          if (call.method === "settle" || call.method === "release") return { verdict: { ...verdict, found: !isFlag } };
          if (call.method !== "consume") return { verdict };
          const charged: ChargeVerdict = { ...verdict, replayed: !isFlag, conflicts: rest === 3, charged: rest === 4 };
          return { verdict: rest === 5 ? { ...charged, held: call.question.counters.map(() => null) } : charged };
        });
        // Infinity travels as null, as in every JSON.
        const asJson = JSON.parse(JSON.stringify(results));
        expect(JSON.parse(JSON.stringify(decodeResults(encodeResults(results), calls)))).toEqual(asJson);
      },
    ),
  );
});

test("calls that share limits share one shape", () => {
  const limits = [{ max: 5, windowMs: 60_000 }];
  const calls = Array.from({ length: 50 }, (_, i): Call => {
    return {
      method: "check",
      question: { policy: "chat", cost: i, counters: [{ layer: "caller", key: `user:${i}`, limits }] },
    };
  });
  expect(JSON.parse(encodeCalls(calls)).shapes).toEqual([["chat", 0, null, null, [["caller", [[5, 60_000]]]]]]);
});

test("a message with a cost by layer has a version that earlier code refuses, any other message what it reads", () => {
  const counters = [{ layer: "caller", key: "user:u", limits: [{ max: 5, windowMs: 60_000 }] }];
  const versionOf = (method: "check" | "settle", cost: Question["cost"]) => {
    const question = { policy: "chat", cost, counters, id: "i", identity: "caller=s" };
    return JSON.parse(encodeCalls([{ method, question }])).v;
  };
  const costs: Question["cost"][] = [1, 0, { caller: 2 }, {}];
  expect(costs.map((cost) => versionOf("check", cost))).toEqual([2, 3, 3, 3]);
  expect(costs.map((cost) => versionOf("settle", cost))).toEqual([2, 2, 3, 3]);
});

test("a message of another version fails as a whole, and an unknown call by itself", () => {
  expect(() => decodeCalls('{"v":1,"shapes":[],"calls":[]}')).toThrow("messages of version 1");
  expect(() => decodeCalls('{"v":4,"shapes":[],"calls":[]}')).toThrow("messages of version 4");
  const [unknown] = decodeCalls('{"v":2,"shapes":[["p",0,null,null,[]]],"calls":[[9,0,1,[]]]}');
  expect(unknown?.method).toBe("9");
});
