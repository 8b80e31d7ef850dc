import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Placement } from "../../src/config/config";
import * as placement from "../../src/objects/placement";
import { runHistory } from "./history";

// The service logs every lost call. A history loses calls on purpose.
beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

vi.mock("../../src/objects/placement", { spy: true });

async function mistakesOf(histories: number): Promise<string[]> {
  const mistakes: string[] = [];
  for (let seed = 1; seed <= histories; seed++) mistakes.push(...(await runHistory(seed)));
  return mistakes;
}

test("the judges find a key that has two objects", async () => {
  const { objectOf } = await vi.importActual<typeof placement>("../../src/objects/placement");
  let asked = 0;
  vi.mocked(placement.objectOf).mockImplementation((key: string, config: Placement) => {
    const object = objectOf(key, config);
    return config.attributes && ++asked % 5 === 0 ? `${object}, the other` : object;
  });
  const mistakes = await mistakesOf(20);
  expect(mistakes.filter((mistake) => mistake.includes("has 2 objects")).length).toBeGreaterThan(0);
  // Too much is admitted then, which the callers see by themselves.
  expect(mistakes.filter((mistake) => mistake.startsWith("too much was admitted")).length).toBeGreaterThan(0);
});
