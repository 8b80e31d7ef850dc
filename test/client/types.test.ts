import { expectTypeOf, test } from "vitest";
import type {
  CheckRequest,
  ConsumeRequest,
  Decision,
  DecisionBody,
  LimitBody,
  Release,
  ReleaseRequest,
  Settlement,
  SettleRequest,
} from "../../src/client/index.js";
import type * as service from "../../src/request/schema";

/** `window_seconds` as `windowSeconds`. */
type Camel<Name> = Name extends `${infer First}_${infer Rest}` ? `${First}${Capitalize<Camel<Rest>>}` : Name;

/** Further fields of a body that is a problem. */
type ProblemField = "type" | "title" | "status" | "detail" | "violated-policies";

// Checked by the compiler: `npm run check:types` fails if the types of client and service differ.
test("the client's types are those of the service", () => {
  expectTypeOf<service.DecisionBody>().toExtend<DecisionBody>();
  expectTypeOf<keyof service.DecisionBody>().toEqualTypeOf<Exclude<keyof DecisionBody, ProblemField>>();
  expectTypeOf<Camel<keyof service.DecisionBody>>().toEqualTypeOf<
    Exclude<keyof Decision, "headers" | "body" | "error">
  >();
  expectTypeOf<keyof service.DecisionBody["limits"][number]>().toEqualTypeOf<keyof LimitBody>();
  expectTypeOf<Camel<keyof LimitBody>>().toEqualTypeOf<keyof Decision["limits"][number]>();
  expectTypeOf<keyof service.SettlementBody>().toEqualTypeOf<keyof Settlement>();
  expectTypeOf<keyof service.ReleaseBody>().toEqualTypeOf<keyof Release | "released">();

  expectTypeOf<service.DecisionRequest>().toExtend<CheckRequest>();
  expectTypeOf<service.SettleRequest>().toExtend<SettleRequest>();
  expectTypeOf<Camel<Exclude<keyof service.ConsumeRequest, "attempt">>>().toEqualTypeOf<
    Exclude<keyof ConsumeRequest, "signal" | "waitUpToMs">
  >();
  expectTypeOf<keyof service.SettleRequest>().toEqualTypeOf<Exclude<keyof SettleRequest, "signal">>();
  expectTypeOf<service.ReleaseRequest>().toExtend<ReleaseRequest>();
  expectTypeOf<keyof service.ReleaseRequest>().toEqualTypeOf<Exclude<keyof ReleaseRequest, "signal">>();
});
