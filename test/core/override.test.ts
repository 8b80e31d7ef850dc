import { expect, test } from "vitest";
import { check, consume, type LimitedLog } from "../../src/core/decide";
import type { Override } from "../../src/core/override";
import { EventLog } from "../../src/core/sliding-window";

const NOW_MS = 1_000_000;
const LIMITS = [{ max: 5, windowMs: 60_000 }];

/** A counter that has used `used` just now, under an override that ends in `endsInMs`. */
function counterOf(used: number, override: Omit<Override, "endsAtMs">, endsInMs: number): LimitedLog {
  const log = new EventLog();
  if (used > 0) log.record({ atMs: NOW_MS, cost: used, released: true, retainMs: 60_000 });
  return { log, limits: LIMITS, cost: 1, override: { ...override, endsAtMs: NOW_MS + endsInMs } };
}

const waitOf = (counter: LimitedLog, cost: number) => check([{ ...counter, cost }], NOW_MS).standings[0]?.[0]?.fitsInMs;

test("the wait under a ban lasts until the ban has ended and the counter's own limits admit the cost", () => {
  expect(waitOf(counterOf(0, { kind: "ban" }, 30_000), 1)).toBe(30_000);
  expect(waitOf(counterOf(5, { kind: "ban" }, 30_000), 1)).toBe(60_000);
  expect(waitOf(counterOf(5, { kind: "ban" }, 60_001), 1)).toBe(60_001);
});

test("an exemption admits a cost that the limits would deny, and records it", () => {
  const counter = counterOf(5, { kind: "exempt" }, 1);
  expect(consume([{ ...counter, cost: 5 }], NOW_MS)).toEqual({
    allowed: true,
    standings: [[{ used: 10, fitsInMs: 0, freesInMs: 60_000, resetsInMs: 60_000 }]],
    overrides: [{ kind: "exempt", endsInMs: 1, ownFitsInMs: 60_000 }],
  });
});

test("the wait under other limits ends when they admit, or once they have ended and the counter's own limits admit", () => {
  const lower = { kind: "limits", limits: [{ max: 1, windowMs: 10_000 }] } as const;
  expect(waitOf(counterOf(1, lower, 10_001), 1)).toBe(10_000);
  expect(waitOf(counterOf(1, lower, 10_000), 1)).toBe(10_000);
  expect(waitOf(counterOf(1, lower, 9_999), 1)).toBe(9_999);
  expect(waitOf(counterOf(5, lower, 9_999), 1)).toBe(60_000);
});

test("a cost above an overridden limit waits until the override ends, whatever is used", () => {
  const lower = { kind: "limits", limits: [{ max: 1, windowMs: 10_000 }] } as const;
  for (const used of [0, 1]) expect(waitOf(counterOf(used, lower, 30_000), 2)).toBe(30_000);
  expect(waitOf(counterOf(4, lower, 30_000), 2)).toBe(60_000);
});

test("the wait for a place in a concurrent limit under an override does not depend on the cost", () => {
  const place = { kind: "concurrent", max: 1, windowMs: 10_000 } as const;
  const withRunning = (counter: LimitedLog, limits = counter.limits) => {
    counter.log.record({ atMs: NOW_MS, cost: 0, released: false, retainMs: 60_000 });
    return { ...counter, limits };
  };
  const other = { kind: "limits", limits: [place] } as const;
  for (const cost of [1, 5]) {
    expect(waitOf(withRunning(counterOf(0, other, 10_001)), cost)).toBe(10_000);
    expect(waitOf(withRunning(counterOf(0, other, 9_999)), cost)).toBe(9_999);
    expect(waitOf(withRunning(counterOf(0, { kind: "exempt" }, 1), [place]), cost)).toBe(0);
    expect(waitOf(withRunning(counterOf(0, { kind: "ban" }, 1), [place]), cost)).toBe(10_000);
  }
});

test("a cost of 0 fits under a ban and under lower limits, whatever is used", () => {
  const lower = { kind: "limits", limits: [{ max: 1, windowMs: 10_000 }] } as const;
  for (const override of [{ kind: "ban" }, { kind: "exempt" }, lower] as const) {
    const counter = { ...counterOf(5, override, 30_000), cost: 0 };
    const verdict = consume([counter], NOW_MS);
    expect(verdict.allowed).toBe(true);
    expect(verdict.standings[0]?.[0]).toMatchObject({ used: 5, fitsInMs: 0 });
    expect(verdict.overrides?.[0]?.ownFitsInMs).toBe(0);
  }
});

test("a verdict without an override in force has no overrides", () => {
  expect(check([{ log: new EventLog(), limits: LIMITS, cost: 1 }], NOW_MS)).not.toHaveProperty("overrides");
});
