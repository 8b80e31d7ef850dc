import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FAULTS, logFault, logFaultsLeftOut, setVersion } from "../src/fault";

const START_MS = Date.UTC(2040, 0, 1);
let lines: Record<string, unknown>[];
let startMs = START_MS;

beforeEach(() => {
  // An hour later each time, so that no test meets the second of another.
  startMs += 3_600_000;
  vi.useFakeTimers({ toFake: ["Date"], now: startMs });
  lines = [];
  vi.spyOn(console, "error").mockImplementation((line) => void lines.push(line));
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
  setVersion(undefined);
});

describe("a fault is a line that", () => {
  test("has its code, what it means, the version of the Worker and the stack", () => {
    setVersion({ id: "9b1c" });
    logFault("alarm_not_set", new Error("no room"), { of: "hub" });
    expect(lines).toEqual([
      {
        code: "alarm_not_set",
        message: "An alarm could not be set.",
        version: "9b1c",
        of: "hub",
        error: expect.stringMatching(/^Error: no room\n {4}at .*fault\.test\.ts/),
      },
    ]);
  });

  test.each([
    ["a string with a key", '["user:secret", 1'],
    ["several lines", '{"key": "user:secret",\n"user:secret\n'],
    ["a quotation mark", '"user:secret" x'],
  ])("shows nothing of a text that is no JSON: %s", (_, text) => {
    try {
      JSON.parse(text);
    } catch (error) {
      logFault("request_failed", error);
      // An object answers with the stack of its error.
      logFault("object_unreachable", new Error((error as Error).stack));
      logFault("object_unreachable", (error as Error).message);
    }
    expect(lines).toHaveLength(3);
    expect(JSON.stringify(lines)).not.toContain("secret");
    expect(lines[0]?.error).toContain("SyntaxError");
  });
});

describe("of a burst of faults", () => {
  test("ten of a code are logged a second, and the next line says how many were left out", () => {
    for (let i = 0; i < 1_000; i++) logFault("object_unreachable", "overloaded");
    logFault("rollback_failed", "overloaded");
    expect(lines.map(({ code }) => code)).toEqual([...Array(10).fill("object_unreachable"), "rollback_failed"]);
    vi.setSystemTime(startMs + 1_000);
    for (let i = 0; i < 2; i++) logFault("object_unreachable", "overloaded");
    expect(lines.slice(11).map(({ left_out }) => left_out)).toEqual([990, undefined]);
  });

  test("none is dropped silently: what was left out is logged also when no fault follows, and once", () => {
    for (let i = 0; i < 25; i++) logFault("counts_not_sent", "overloaded");
    logFaultsLeftOut();
    expect(lines).toHaveLength(10);
    vi.setSystemTime(startMs + 1_000);
    for (let i = 0; i < 3; i++) logFaultsLeftOut();
    expect(lines.slice(10)).toEqual([{ code: "counts_not_sent", message: FAULTS.counts_not_sent, left_out: 15 }]);
  });

  test("lines are logged again after a clock went back", () => {
    for (let i = 0; i < 11; i++) logFault("denial_not_logged", "broken");
    vi.setSystemTime(startMs - 60_000);
    logFault("denial_not_logged", "broken");
    expect(lines).toHaveLength(11);
    expect(lines[10]?.left_out).toBe(1);
  });
});

test("docs/operations.md has every code", () => {
  const document = readFileSync(join(import.meta.dirname, "../docs/operations.md"), "utf8");
  const section = document.slice(document.indexOf("\n## Logs"));
  const codes = [...section.slice(0, section.indexOf("\n## ", 1)).matchAll(/^\| `([a-z_]+)` \|/gm)].map(
    ([, code]) => code,
  );
  expect(codes.sort()).toEqual(Object.keys(FAULTS).sort());
});
