import fc from "fast-check";
import { expect, test } from "vitest";
import { LARGEST_MAX } from "../../src/core/limit";
import { decisionId, decisionRequest } from "../../src/request/schema";
import { isDecisionId, isDecisionRequest } from "../../src/request/well-formed";

const scalar = fc.oneof(
  fc.string(),
  fc.constantFrom("", "chat", null, undefined, true, 0, 1, 5, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY),
);
const value = fc.oneof(scalar, fc.array(scalar), fc.dictionary(fc.string(), scalar));
const subject = fc.dictionary(fc.constantFrom("user", "ip", "__proto__", "constructor", ""), scalar);
const layer = fc.constantFrom("requests", "tokens", "constructor", "__proto__", "");
const byLayer = fc.oneof(
  fc.dictionary(layer, fc.constantFrom(0, 1, LARGEST_MAX, LARGEST_MAX + 1, -1, 1.5)),
  fc.dictionary(layer, fc.integer({ min: 0, max: 9 })),
  fc.dictionary(layer, scalar),
);
const anyRequest = fc.record(
  {
    policy: fc.oneof(fc.constant("chat"), value),
    subject: fc.oneof(subject, value),
    cost: fc.oneof(fc.integer({ min: 1, max: 9 }), byLayer, value),
    more: value,
  },
  { requiredKeys: [] },
);
const request = fc.oneof(
  { weight: 4, arbitrary: anyRequest },
  {
    weight: 1,
    arbitrary: fc.record({ policy: fc.constant("chat"), subject: fc.constant({ user: "u" }), cost: byLayer }),
  },
);

test("what is accepted without the schema is accepted by the schema, unchanged", () => {
  let accepted = 0;
  let byLayer = 0;
  fc.assert(
    fc.property(request, (input) => {
      if (!isDecisionRequest(input, [])) return;
      accepted++;
      if (typeof input.cost === "object" && Object.keys(input.cost).length > 0) byLayer++;
      expect(decisionRequest.parse(input)).toEqual(input);
    }),
    { numRuns: 50_000 },
  );
  expect(accepted).toBeGreaterThan(100);
  expect(byLayer).toBeGreaterThan(100);
});

test("an id is accepted without the schema exactly if the schema accepts it", () => {
  const character = fc.constantFrom(...'aZ0._~:-\n é"/');
  const id = fc.oneof(
    fc.string({ unit: character, maxLength: 6 }),
    fc.nat({ max: 130 }).map((n) => "x".repeat(n)),
    value,
  );
  fc.assert(
    fc.property(id, (input) => isDecisionId(input) === decisionId.safeParse(input).success),
    { numRuns: 20_000 },
  );
});

test("a well-formed request is accepted without the schema, with the fields that are read elsewhere", () => {
  const input = { op: "consume", policy: "chat", subject: { user: "u", ip: "1.2.3.4", org: null }, cost: 2 };
  expect(isDecisionRequest(input, ["op"])).toBe(true);
  expect(isDecisionRequest({ ...input, cost: { requests: 0, tokens: LARGEST_MAX } }, ["op"])).toBe(true);
  expect(isDecisionRequest(input, [])).toBe(false);
});

test("an object that is more than a record of fields is left to the schema, as RPC can send one", () => {
  for (const subject of [new Map([["user", "u"]]), new Date(0), new Error("no subject")]) {
    const input = { policy: "chat", subject };
    expect(decisionRequest.safeParse(input).success).toBe(false);
    expect(isDecisionRequest(input, [])).toBe(false);
  }
  for (const cost of [new Map([["tokens", 1]]), new Date(0), [], null]) {
    const input = { policy: "chat", subject: { user: "u" }, cost };
    expect(decisionRequest.safeParse(input).success).toBe(false);
    expect(isDecisionRequest(input, [])).toBe(false);
  }
});
