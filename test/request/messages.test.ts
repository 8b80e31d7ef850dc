import { describe, expect, test } from "vitest";
import { type Config, readConfig } from "../../src/config/config";
import type { ConfigError } from "../../src/config/mistake";
import { LARGEST_MAX } from "../../src/core/limit";
import { readInlineConsume, readInlineKey, readInlineRelease, readInlineSettle } from "../../src/request/inline";
import { readOverrideRequest } from "../../src/request/override-request";
import { readCheck, readConsumeWithKey, readRelease, readSettle } from "../../src/request/read";
import { type Refusal, readBySchema } from "../../src/request/refusal";
import { batchEnvelope } from "../../src/request/schema";

const config: Config = readConfig({});
const subject = { user: "u_1", ip: "203.0.113.7" };
const layers = [{ name: "login", key: "login/203.0.113.7", limits: ["5/minute"] }];

/** The readers of requests, each with a valid request. */
const READERS: Readonly<Record<string, readonly [read: (input: unknown) => unknown, valid: unknown]>> = {
  check: [(input) => readCheck(input, config), { policy: "chat", subject, cost: 1 }],
  consume: [
    (input) => readConsumeWithKey(input, config),
    { policy: "chat", subject, cost: 1, idempotency_key: "k", attempt: 1 },
  ],
  settle: [(input) => readSettle(input, config), { policy: "chat", subject, id: "k", cost: 0 }],
  "check by layer": [(input) => readCheck(input, config), { policy: "chat", subject, cost: { caller: 1 } }],
  "settle by layer": [(input) => readSettle(input, config), { policy: "chat", subject, id: "k", cost: { ip: 0 } }],
  "inline consume by layer": [(input) => readInlineConsume(input, {}), { layers, cost: { login: 0 } }],
  release: [(input) => readRelease(input, config), { policy: "chat", subject, id: "k" }],
  batch: [(input) => readBySchema(batchEnvelope, input), { requests: [{ op: "check" }], headers: true }],
  "inline consume": [(input) => readInlineConsume(input, {}), { layers, cost: 1 }],
  "inline settle": [readInlineSettle, { layers, id: "k", cost: 0 }],
  "inline release": [readInlineRelease, { layers, id: "k" }],
  override: [
    (input) => readOverrideRequest(input, "user:u_1", config, 0),
    {
      kind: "limits",
      reason: "agreed",
      expires_in_seconds: 60,
      limits: [{ policy: "chat", layer: "caller", limits: ["9/minute"] }],
    },
  ],
  "override until an instant": [
    (input) => readOverrideRequest(input, "user:u_1", config, 0),
    { kind: "ban", reason: "abuse", expires_at: "1970-02-01T00:00:00Z" },
  ],
};

const WRONG = [undefined, null, true, -1, 1.5, Number.POSITIVE_INFINITY, "", "?", [], [null], {}, { "?": 1 }];

/** The variants of a value in which it, or one of its parts, is replaced by a wrong value. */
function* spoilt(value: unknown): Generator<unknown> {
  yield* WRONG;
  if (Array.isArray(value)) {
    yield [...value, ...value];
    for (const [i, item] of value.entries()) for (const other of spoilt(item)) yield value.with(i, other);
  } else if (typeof value === "object" && value !== null) {
    yield { ...value, more: 1 };
    for (const [name, item] of Object.entries(value))
      for (const other of spoilt(item)) yield { ...value, [name]: other };
  }
}

/** The messages of the mistakes; empty if the value is valid after all. */
function detailsOf(read: () => unknown): string[] {
  try {
    read();
    return [];
  } catch (error) {
    const { kind, message, errors } = error as Refusal;
    return errors.length > 0 ? errors.map(({ detail }) => detail) : [`${kind}: ${message}`];
  }
}

function mistakesOf(environment: Record<string, unknown>): string[] {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    return (error as ConfigError).mistakes.map(({ what }) => what);
  }
}

const OURS = /^(must |missing: |unknown field|".*" is not a limit: write it like |".*": the (limit|window) must be )/;
/** Messages of refusals of other kinds: a cost above the limit, an unknown policy. */
const OTHER_KINDS = /^(never-fits|unknown-policy): [A-Z]/;

describe("a mistake is reported in the service's own words", () => {
  test.each(Object.entries(READERS))("in a request to %s", (_, [read, valid]) => {
    expect(detailsOf(() => read(valid))).toEqual([]);
    const details = [...spoilt(valid)].flatMap((input) => detailsOf(() => read(input)));
    expect(details.length).toBeGreaterThan(20);
    expect(details.filter((detail) => !OURS.test(detail) && !OTHER_KINDS.test(detail))).toEqual([]);
  });

  test("in a key in a path", () => {
    const details = ["", " ", "\ud800", "\u0007", "x".repeat(257)].flatMap((key) =>
      detailsOf(() => readInlineKey(key)),
    );
    expect(details).toEqual([
      "must not be empty",
      "must not be empty",
      "must be well-formed Unicode",
      "must not contain control characters",
      "must be at most 256 bytes of UTF-8",
    ]);
  });

  test("in the configuration", () => {
    const policy = { mode: "live", layers: [{ name: "caller", by: ["user"], limits: ["5/minute"], mode: "live" }] };
    const environments = [
      ...[...spoilt({ upload: policy })].map((policies) => ({ RATE_LIMIT_POLICIES: policies })),
      ...WRONG.flatMap((value) =>
        ["RATE_LIMIT_CHAT_PER_MIN", "RATE_LIMIT_ON_ERROR", "LIMITER_TOKENS", "LIMITER_PLACEMENT"].map((name) => ({
          [name]: value,
        })),
      ),
    ];
    const mistakes = environments.flatMap(mistakesOf);
    expect(mistakes.length).toBeGreaterThan(50);
    expect(mistakes.filter((what) => !OURS.test(what) && !what.startsWith("every token must be "))).toEqual([]);
  });
});

test.each([
  ["a missing field", { subject }, ["missing: must be text"]],
  ["a field of another type", { policy: 5, subject }, ["must be text"]],
  ["an invalid subject", { policy: "chat", subject: [] }, ["must be an object"]],
  ["an attribute of another type", { policy: "chat", subject: { ...subject, user: 5 } }, ["must be text or null"]],
  ["a cost as text", { policy: "chat", subject, cost: "1" }, ["must be a whole number"]],
  ["a cost of 0", { policy: "chat", subject, cost: 0 }, ["must be at least 1"]],
  ["a cost of a layer", { policy: "chat", subject, cost: { ip: -1 } }, [`must be from 0 to ${LARGEST_MAX}`]],
  ["a cost of an unknown layer", { policy: "chat", subject, cost: { tokens: 1 } }, ["must name a layer: caller, ip"]],
])("says of %s what it must be", (_, input, details) => {
  expect(detailsOf(() => readCheck(input, config))).toEqual(details);
});
