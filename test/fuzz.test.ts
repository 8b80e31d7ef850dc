import fc from "fast-check";
import { expect, test } from "vitest";
import { caseOf } from "../scripts/fuzz/cases";
import { mistakesInReading, VARIABLES } from "../scripts/fuzz/configuration";
import { chargedAsReported, mistakesInSession } from "../scripts/fuzz/session-judge";

const SEED = 20_261_124;

test("any variables are read as a configuration, or refused with a list of mistakes", () => {
  const isRight = fc.property(VARIABLES, (variables) => {
    expect(mistakesInReading(variables)).toEqual([]);
  });
  fc.assert(isRight, { numRuns: 2_000 });
});

test("the same seed and number make the same bytes, so that a failure can be repeated", () => {
  const cases = (seed: number) => Array.from({ length: 50 }, (_, i) => caseOf(seed, i));
  expect(cases(SEED)).toEqual(cases(SEED));
  expect(cases(SEED)).not.toEqual(cases(SEED + 1));
});

test("the judge of sessions finds a lost answer, a server error, a decided message that is wrong, and another close", () => {
  const sent = {
    kind: "session",
    description: "",
    user: "u",
    handshake: Buffer.alloc(0),
    parts: [],
    answers: 2,
    doomed: 1,
    breaksHandshake: false,
  } as const;
  const problem = (status: number) => ({ type: "about:blank", title: "t", status, detail: "d" });
  const refused = JSON.stringify({ id: null, error: problem(400) });
  const limits = [{ layer: "caller", key: "user:u", used: 3 }];
  const body = { allowed: true, replayed: false, id: "i", policy: "fuzz", cost: 3, limits };
  const decided = JSON.stringify({ id: 1, results: [{ status: 200, body }] });
  const exchange = (texts: string[], closeCode = 1_000) => ({
    head: "HTTP/1.1 101 Switching Protocols",
    texts,
    closeCode,
    isHung: false,
    isWhole: true,
  });
  expect(mistakesInSession(sent, exchange([refused, decided]))).toEqual([]);
  expect(chargedAsReported(sent, "fuzz", exchange([refused, decided]))).toBe(3);
  expect(mistakesInSession(sent, exchange([refused]))).toEqual(["1 answers to 2 messages"]);
  expect(chargedAsReported(sent, "fuzz", exchange([refused]))).toBeUndefined();
  expect(mistakesInSession(sent, exchange([decided, decided]))).toEqual(["1 messages must be refused, 0 were"]);
  expect(mistakesInSession(sent, exchange([refused, decided], 1_001))).toHaveLength(1);
  expect(mistakesInSession({ ...sent, endsWith: 1_009 }, exchange([refused, decided]))).toHaveLength(1);
  const failed = JSON.stringify({ id: 1, results: [{ status: 503, body: problem(503) }] });
  expect(mistakesInSession(sent, exchange([refused, failed]))).toHaveLength(1);
  expect(mistakesInSession(sent, exchange([refused, JSON.stringify({ id: 1, error: problem(500) })]))).toHaveLength(1);
  expect(mistakesInSession(sent, { ...exchange([refused, decided]), isHung: true })).toHaveLength(1);
  expect(mistakesInSession(sent, { ...exchange([]), head: "HTTP/1.1 500 x" })).toHaveLength(1);
});
