import { describe, expect, test } from "vitest";
import { readConfig, VARIABLE_NAMES } from "../../src/config/config";
import type { ConfigError } from "../../src/config/mistake";

function mistakesOf(environment: Record<string, unknown>): string[] {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    return (error as ConfigError).mistakes.map(({ where, what }) => `${where}: ${what}`);
  }
}

const layer = { name: "caller", by: ["user"], limits: ["5/minute"] };
const policies = (layers: unknown) => ({ RATE_LIMIT_POLICIES: { upload: { layers } } });

test("with nothing set, the chat policy has its defaults", () => {
  const config = readConfig({});
  expect([...config.policies.keys()]).toEqual(["chat"]);
  expect(config.policies.get("chat")?.layers.map(({ limits }) => limits.map(({ max }) => max))).toEqual([
    [5, 60],
    [30],
  ]);
  expect(config).toMatchObject({
    ipv6PrefixBits: 64,
    placement: { kind: "key" },
    locationHint: undefined,
    jurisdiction: undefined,
    callerTokens: [],
    adminTokens: [],
  });
});

test("a variable that is set but empty counts as not set", () => {
  const blank = Object.fromEntries(VARIABLE_NAMES.map((name) => [name, " "]));
  expect(readConfig(blank)).toEqual(readConfig({}));
});

test("other variables are ignored", () => {
  expect(mistakesOf({ PATH: 5, RATE_LIMIT_UNKNOWN: {}, LIMITER_OBJECTS: {} })).toEqual([]);
});

test("policies are read from a table or from JSON, after chat", () => {
  const table = {
    upload: { layers: [layer, { name: "org", by: ["org", "team_2"], limits: ["10/day", "2 per 5 seconds"] }] },
  };
  const fromTable = readConfig({ RATE_LIMIT_POLICIES: table }).policies;
  expect(readConfig({ RATE_LIMIT_POLICIES: JSON.stringify(table) }).policies).toEqual(fromTable);
  expect([...fromTable.keys()]).toEqual(["chat", "upload"]);
  expect(fromTable.get("upload")?.layers[1]).toEqual({
    name: "org",
    by: ["org", "team_2"],
    mode: "live",
    limits: [
      { max: 10, windowMs: 86_400_000 },
      { max: 2, windowMs: 5_000 },
    ],
  });
});

test("a layer has its own mode, else that of its policy, else live", () => {
  const modesOf = (policy: object, chat?: string) => {
    const { policies } = readConfig({ RATE_LIMIT_POLICIES: { upload: policy }, RATE_LIMIT_CHAT_MODE: chat });
    return [...policies.values()].map(({ layers }) => layers.map(({ mode }) => mode));
  };
  const layers = [layer, { ...layer, name: "org", mode: "shadow" }, { ...layer, name: "team", mode: "live" }];
  expect(modesOf({ layers })).toEqual([
    ["live", "live"],
    ["live", "shadow", "live"],
  ]);
  expect(modesOf({ mode: "shadow", layers }, "shadow")).toEqual([
    ["shadow", "shadow"],
    ["shadow", "shadow", "live"],
  ]);
  expect(modesOf({ mode: "live", layers: [layer] }, "live")).toEqual([["live", "live"], ["live"]]);
});

describe("accepts the bound and refuses one beyond it:", () => {
  const manyPolicies = (count: number) => ({
    RATE_LIMIT_POLICIES: Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { layers: [layer] }])),
  });
  const manyLayers = (count: number) =>
    policies(Array.from({ length: count }, (_, i) => ({ ...layer, name: `l${i}` })));
  const manyLimits = (count: number) =>
    policies([{ ...layer, limits: Array.from({ length: count }, (_, i) => `1 per ${i + 1} seconds`) }]);

  test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["a chat limit of 1", { RATE_LIMIT_CHAT_PER_MIN: "1" }, { RATE_LIMIT_CHAT_PER_MIN: "0" }],
    ["a chat limit of 1,000,000,000", { RATE_LIMIT_CHAT_PER_HOUR: 1e9 }, { RATE_LIMIT_CHAT_PER_HOUR: 1e9 + 1 }],
    ["a prefix of 1", { RATE_LIMIT_IPV6_PREFIX: "1" }, { RATE_LIMIT_IPV6_PREFIX: "0" }],
    ["a prefix of 128", { RATE_LIMIT_IPV6_PREFIX: "128" }, { RATE_LIMIT_IPV6_PREFIX: "129" }],
    ["one shard", { LIMITER_PLACEMENT: "shards:1" }, { LIMITER_PLACEMENT: "shards:0" }],
    ["9999 shards", { LIMITER_PLACEMENT: "shards:9999" }, { LIMITER_PLACEMENT: "shards:10000" }],
    ["32 policies", manyPolicies(32), manyPolicies(33)],
    ["8 layers", manyLayers(8), manyLayers(9)],
    ["8 limits", manyLimits(8), manyLimits(9)],
    ["a name of 32", policies([{ ...layer, name: "a".repeat(32) }]), policies([{ ...layer, name: "a".repeat(33) }])],
    [
      "an attribute of 64",
      policies([{ ...layer, by: ["a".repeat(64)] }]),
      policies([{ ...layer, by: ["a".repeat(65)] }]),
    ],
    [
      "31 days",
      policies([{ ...layer, limits: ["1 per 31 days"] }]),
      policies([{ ...layer, limits: ["1 per 32 days"] }]),
    ],
  ])("%s", (_, good, bad) => {
    expect(mistakesOf(good)).toEqual([]);
    expect(mistakesOf(bad)).toHaveLength(1);
  });
});

describe("each mistake has the variable and the path into it:", () => {
  test.each<[Record<string, unknown>, string]>([
    [{ RATE_LIMIT_CHAT_PER_MIN: "5.5" }, "RATE_LIMIT_CHAT_PER_MIN: must be a whole number from 1 to 1000000000"],
    [{ RATE_LIMIT_CHAT_PER_MIN: "five" }, "RATE_LIMIT_CHAT_PER_MIN: must be a whole number from 1 to 1000000000"],
    [{ RATE_LIMIT_CHAT_IP_PER_MIN: true }, "RATE_LIMIT_CHAT_IP_PER_MIN: must be a whole number from 1 to 1000000000"],
    [{ RATE_LIMIT_INLINE: "yes" }, "RATE_LIMIT_INLINE: must be 0 or 1"],
    [{ RATE_LIMIT_LOG_KEYS: 2 }, "RATE_LIMIT_LOG_KEYS: must be 0 or 1"],
    [{ LIMITER_PLACEMENT: 5 }, "LIMITER_PLACEMENT: must be key or shards:N, N from 1 to 9999"],
    [{ LIMITER_PLACEMENT: "shard:1" }, "LIMITER_PLACEMENT: must be key or shards:N, N from 1 to 9999"],
    [
      { LIMITER_PLACEMENT: "ip=shards:8,user=shards:4" },
      "LIMITER_PLACEMENT: must end with key or shards:N, for all other attributes",
    ],
    [
      { LIMITER_PLACEMENT: "ip=shards:0,key" },
      'LIMITER_PLACEMENT: "ip=shards:0" must have key or shards:N after =, N from 1 to 9999',
    ],
    [{ LIMITER_PLACEMENT: "ip=key,Key" }, 'LIMITER_PLACEMENT: "Key" must be key or shards:N, N from 1 to 9999'],
    [
      { LIMITER_PLACEMENT: "User=key,key" },
      'LIMITER_PLACEMENT: "User=key" must begin with an attribute: 1 to 64 of a-z, 0-9 and _',
    ],
    [
      { LIMITER_PLACEMENT: "__proto__=key,key" },
      'LIMITER_PLACEMENT: "__proto__=key" must begin with an attribute: 1 to 64 of a-z, 0-9 and _',
    ],
    [{ LIMITER_PLACEMENT: "ip=key,ip=shards:2,key" }, "LIMITER_PLACEMENT: must not place ip twice"],
    [{ LIMITER_PLACEMENT: "key,shards:2" }, 'LIMITER_PLACEMENT: "key" must have an attribute and = before it'],
    [
      { LIMITER_LOCATION_HINT: "mars" },
      "LIMITER_LOCATION_HINT: must be one of wnam, enam, sam, weur, eeur, apac, oc, afr, me",
    ],
    [{ LIMITER_JURISDICTION: "weur" }, "LIMITER_JURISDICTION: must be one of eu, us, fedramp, fedramp-high"],
    [
      { LIMITER_TOKENS: "good, two words" },
      "LIMITER_TOKENS: every token must be visible ASCII characters without spaces",
    ],
    [{ RATE_LIMIT_CHAT_MODE: "dry" }, "RATE_LIMIT_CHAT_MODE: must be live or shadow"],
    [{ RATE_LIMIT_CHAT_ON_ERROR: "admit" }, "RATE_LIMIT_CHAT_ON_ERROR: must be deny or allow"],
    [
      { RATE_LIMIT_POLICIES: { upload: { on_error: true, layers: [layer] } } },
      "RATE_LIMIT_POLICIES/upload/on_error: must be deny or allow",
    ],
    [
      { RATE_LIMIT_POLICIES: { upload: { mode: "off", layers: [layer] } } },
      "RATE_LIMIT_POLICIES/upload/mode: must be live or shadow",
    ],
    [policies([{ ...layer, mode: "" }]), "RATE_LIMIT_POLICIES/upload/layers/0/mode: must be live or shadow"],
    [{ RATE_LIMIT_POLICIES: "[]" }, "RATE_LIMIT_POLICIES: must be a table of policies by name"],
    [
      { RATE_LIMIT_POLICIES: { chat: { layers: [layer] } } },
      "RATE_LIMIT_POLICIES/chat: chat is built in: set it by the RATE_LIMIT_CHAT_… variables",
    ],
    [
      { RATE_LIMIT_POLICIES: { inline: { layers: [layer] } } },
      "RATE_LIMIT_POLICIES/inline: inline is reserved for limits that callers name: choose another name",
    ],
    [{ RATE_LIMIT_POLICIES: { upload: [] } }, "RATE_LIMIT_POLICIES/upload: must be a table"],
    [{ RATE_LIMIT_POLICIES: { upload: {} } }, "RATE_LIMIT_POLICIES/upload/layers: missing: must be a list"],
    [policies([{ ...layer, key: "u" }]), 'RATE_LIMIT_POLICIES/upload/layers/0: unknown field "key"'],
    [policies([]), "RATE_LIMIT_POLICIES/upload/layers: must not be empty"],
    [policies([layer, layer]), "RATE_LIMIT_POLICIES/upload/layers: must not have two layers of the same name"],
    [policies([{ ...layer, by: [] }]), "RATE_LIMIT_POLICIES/upload/layers/0/by: must not be empty"],
    [
      policies([{ ...layer, by: ["a", "a"] }]),
      "RATE_LIMIT_POLICIES/upload/layers/0/by: must not name an attribute twice",
    ],
    [
      policies([{ ...layer, by: ["User"] }]),
      "RATE_LIMIT_POLICIES/upload/layers/0/by/0: must be 1 to 64 of a-z, 0-9 and _",
    ],
    [policies([{ ...layer, limits: [] }]), "RATE_LIMIT_POLICIES/upload/layers/0/limits: must not be empty"],
    [
      policies([{ ...layer, limits: ["60/minute", "9 per 60 seconds"] }]),
      "RATE_LIMIT_POLICIES/upload/layers/0/limits: must not have two limits of one kind with the same window",
    ],
    [
      policies([{ ...layer, limits: ["3 concurrent/minute", "9/minute", "2 concurrent per 60 seconds"] }]),
      "RATE_LIMIT_POLICIES/upload/layers/0/limits: must not have two limits of one kind with the same window",
    ],
    [
      policies([{ ...layer, limits: ["much"] }]),
      'RATE_LIMIT_POLICIES/upload/layers/0/limits/0: "much" is not a limit: write it like 5/minute, 2 per 5 seconds or 2 concurrent per minute',
    ],
  ])("%j", (environment, mistake) => {
    expect(mistakesOf(environment)).toEqual([mistake]);
  });

  test.each(["__proto__", "constructor", "A", "1st", ""])("a policy called %j", (name) => {
    const text = JSON.stringify({ NAME: { layers: [layer] } }).replace("NAME", name);
    expect(mistakesOf({ RATE_LIMIT_POLICIES: text })).toHaveLength(name === "constructor" ? 0 : 1);
  });
});

test.each([
  ["invalid limits", [{ ...layer, limits: ["much", "more"] }], ["layers/0/limits/0", "layers/0/limits/1"]],
  ["limits that are numbers", [{ ...layer, limits: [5, 6] }], ["layers/0/limits/0", "layers/0/limits/1"]],
  ["limits of null", [{ ...layer, limits: [null, null] }], ["layers/0/limits/0", "layers/0/limits/1"]],
  ["limits out of bounds", [{ ...layer, limits: ["0/day", "0/hour"] }], ["layers/0/limits/0", "layers/0/limits/1"]],
  ["attributes of null", [{ ...layer, by: [null, null] }], ["layers/0/by/0", "layers/0/by/1"]],
  [
    "names of null",
    [
      { ...layer, name: null },
      { ...layer, name: null },
    ],
    ["layers/0/name", "layers/1/name"],
  ],
])("two mistakes are reported as two, without a third: %s", (_, layers, places) => {
  const reported = mistakesOf(policies(layers)).map((mistake) => mistake.split(":")[0]);
  expect(reported.sort()).toEqual(places.map((place) => `RATE_LIMIT_POLICIES/upload/${place}`));
});

test("all mistakes of all variables are reported at once", () => {
  const mistakes = mistakesOf({
    RATE_LIMIT_CHAT_PER_MIN: 0,
    RATE_LIMIT_CHAT_PER_HOUR: "x",
    LIMITER_PLACEMENT: "?",
    RATE_LIMIT_POLICIES: {
      Bad: { layers: [{ name: "UP", by: [], limits: ["x", "1/minute", "2/minute"], more: 1 }], less: 2 },
      chat: {},
    },
  });
  expect(mistakes.map((mistake) => mistake.split(":")[0]).sort()).toEqual([
    "LIMITER_PLACEMENT",
    "RATE_LIMIT_CHAT_PER_HOUR",
    "RATE_LIMIT_CHAT_PER_MIN",
    "RATE_LIMIT_POLICIES/Bad",
    "RATE_LIMIT_POLICIES/Bad",
    "RATE_LIMIT_POLICIES/Bad/layers/0",
    "RATE_LIMIT_POLICIES/Bad/layers/0/by",
    "RATE_LIMIT_POLICIES/Bad/layers/0/limits",
    "RATE_LIMIT_POLICIES/Bad/layers/0/limits/0",
    "RATE_LIMIT_POLICIES/Bad/layers/0/name",
    "RATE_LIMIT_POLICIES/chat",
    "RATE_LIMIT_POLICIES/chat/layers",
  ]);
});

test("a placement may name attributes before that of all others, with spaces", () => {
  expect(readConfig({ LIMITER_PLACEMENT: " ip = shards:8, user=key ,shards:4" }).placement).toEqual({
    kind: "shards",
    count: 4,
    attributes: new Map([
      ["ip", { kind: "shards", count: 8 }],
      ["user", { kind: "key" }],
    ]),
  });
  expect(readConfig({ LIMITER_PLACEMENT: "shards:4" }).placement).toEqual({ kind: "shards", count: 4 });
});

test("all mistakes of a placement are reported at once", () => {
  expect(mistakesOf({ LIMITER_PLACEMENT: "shards:2,,=key,ip=,ip=key=1,IP=few" })).toEqual([
    "LIMITER_PLACEMENT: must end with key or shards:N, for all other attributes",
    'LIMITER_PLACEMENT: "shards:2" must have an attribute and = before it',
    'LIMITER_PLACEMENT: "" must have an attribute and = before it',
    'LIMITER_PLACEMENT: "=key" must begin with an attribute: 1 to 64 of a-z, 0-9 and _',
    'LIMITER_PLACEMENT: "ip=" must have key or shards:N after =, N from 1 to 9999',
    "LIMITER_PLACEMENT: must not place ip twice",
    'LIMITER_PLACEMENT: "ip=key=1" must have key or shards:N after =, N from 1 to 9999',
    'LIMITER_PLACEMENT: "IP=few" must begin with an attribute: 1 to 64 of a-z, 0-9 and _',
    'LIMITER_PLACEMENT: "IP=few" must have key or shards:N after =, N from 1 to 9999',
  ]);
});

test("a mistake in a token does not contain the token", () => {
  expect(mistakesOf({ LIMITER_TOKENS: "hunter2 hunter3" }).join()).not.toContain("hunter");
});
