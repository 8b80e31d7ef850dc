import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { SweepAlarm } from "../../src/object/sweep-alarm";
import { runHistory } from "./history";

// The service logs every lost call. A history loses calls on purpose.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

test("the judges find objects that die before their alarm is set, and that nobody heals", async () => {
  vi.spyOn(SweepAlarm.prototype, "heal").mockImplementation(() => {});
  const mistakes: string[] = [];
  for (let seed = 1; seed <= 150; seed++) mistakes.push(...(await runHistory(seed)));
  expect(mistakes.filter((mistake) => mistake.endsWith("has rows and no alarm")).length).toBeGreaterThan(0);
});
