import { expectTypeOf, test } from "vitest";
import type * as wire from "../../console/wire";
import type * as admin from "../../src/request/admin-schema";
import type * as schema from "../../src/request/schema";

test("the console's types match the answers of the service", () => {
  expectTypeOf<schema.PolicyList["policies"][number]["layers"]>().toExtend<readonly wire.LayerState[]>();
  expectTypeOf<admin.KeyState>().toExtend<wire.KeyState>();
  expectTypeOf<admin.OverrideList>().toExtend<wire.OverrideList>();
  expectTypeOf<admin.AuditBody>().toExtend<wire.Audit>();
  expectTypeOf<admin.AuditedOrder["order"]>().toEqualTypeOf<wire.OrderKind>();
  expectTypeOf<admin.Stats>().toExtend<wire.Stats>();
  expectTypeOf<admin.Stats["minutes"][number]["counts"][number]["outcome"]>().toEqualTypeOf<wire.Outcome>();
});
