import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Policy } from "../../src/core/policy";
import { DenialLog } from "../../src/counting/denial-log";
import type { Decision } from "../../src/limiter/decision";

const MINUTE = { max: 5, windowMs: 60_000 };
const standing = (fitsInMs: number) => ({ used: 5, fitsInMs, freesInMs: 1, resetsInMs: 60_000 });
const denied: Decision = {
  allowed: false,
  id: undefined,
  policy: new Policy("chat", []),
  cost: 2,
  replayed: false,
  degraded: false,
  isCached: true,
  wouldDeny: true,
  neverFitsInShadow: [],
  limits: [
    { layer: "caller", key: "user:u_1", limit: MINUTE, standing: standing(1_500), isShadow: false },
    {
      layer: "caller",
      key: "user:u_1",
      limit: { ...MINUTE, windowMs: 3_600_000 },
      standing: standing(2_500),
      isShadow: false,
    },
    { layer: "ip", key: "ip:203.0.113.7", limit: MINUTE, standing: standing(0), isShadow: false },
    { layer: "org", key: "org:o_1", limit: MINUTE, standing: standing(9_000), isShadow: true },
  ],
};

let log: ReturnType<typeof vi.spyOn>;
beforeEach(() => {
  log = vi.spyOn(console, "log").mockImplementation(() => {});
});
afterEach(() => log.mockRestore());

/** The lines that these decisions log. */
async function linesOf(
  decisions: Decision[],
  config: object = {},
  random = () => 0,
): Promise<Record<string, unknown>[]> {
  const work: Promise<unknown>[] = [];
  const options = {
    logDenials: 1,
    logKeys: false,
    callerTokens: ["caller"],
    adminTokens: ["admin"],
    tokenDigests: [],
    ...config,
  };
  const denialLog = new DenialLog(options, random);
  for (const decision of decisions) denialLog.onDecision(decision, (promise) => void work.push(promise));
  await Promise.all(work);
  const lines = log.mock.calls.map(([line]: unknown[]) => JSON.parse(String(line)) as Record<string, unknown>);
  log.mockClear();
  return lines;
}

test("a denial is one line, with the layers that caused it", async () => {
  const [line, ...more] = await linesOf([denied, { ...denied, allowed: true }], { logKeys: true });
  expect(more).toEqual([]);
  expect(line).toEqual({
    message: "denied",
    policy: "chat",
    layers: [{ layer: "caller", key: "user:u_1" }],
    cost: 2,
    retry_after_seconds: 3,
    at_edge: true,
  });
});

test("a key is logged as a digest, always the same, which other tokens would change", async () => {
  const digestOf = async (config: object) => {
    const [line] = await linesOf([denied], config);
    expect(JSON.stringify(line)).not.toMatch(/u_1|admin"|caller,/);
    return (line as { layers: { key: string }[] }).layers[0]?.key;
  };
  const digest = await digestOf({});
  expect(digest).toMatch(/^[0-9a-f]{16}$/);
  expect(await digestOf({})).toBe(digest);
  expect(await digestOf({ adminTokens: ["other"] })).not.toBe(digest);
  expect(await digestOf({ adminTokens: [], callerTokens: [] })).not.toBe(digest);
});

test.each([
  [0, 0],
  [0.25, 25],
  [1, 100],
])("a share of %d logs %d of 100 denials", async (logDenials, expected) => {
  let i = 0;
  const lines = await linesOf(Array(100).fill(denied), { logDenials }, () => (i++ % 100) / 100);
  expect(lines.length).toBe(expected);
});
