import { expectTypeOf, test } from "vitest";
import type * as wire from "../../console/wire";
import type * as schema from "../../src/edge/schema";

test("the console reads what the service answers", () => {
  expectTypeOf<schema.PolicyList["policies"][number]["layers"]>().toExtend<readonly wire.LayerState[]>();
  expectTypeOf<schema.KeyState>().toExtend<wire.KeyState>();
  expectTypeOf<schema.Stats>().toExtend<wire.Stats>();
  expectTypeOf<schema.Stats["minutes"][number]["counts"][number]["outcome"]>().toEqualTypeOf<wire.Outcome>();
});
