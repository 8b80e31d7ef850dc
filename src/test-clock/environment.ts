import { startService } from "../service";
import { clock, type TestAuditObject, type TestClockObject, type TestStatsObject } from "./object";
import { TrackedObjects } from "./objects";
import type { TestEnv } from "./routes";

/** What the runtime binds. */
export interface Bindings {
  readonly LIMITER_OBJECTS: DurableObjectNamespace<TestClockObject>;
  readonly LIMITER_STATS: DurableObjectNamespace<TestStatsObject>;
  readonly LIMITER_AUDIT: DurableObjectNamespace<TestAuditObject>;
}

let environment: TestEnv | undefined;

/** One environment for the Worker and its hubs, on the test clock: it knows every object that either has asked. */
export function environmentOf(bindings: Bindings): TestEnv {
  if (environment) return environment;
  environment = { ...bindings, LIMITER_OBJECTS: new TrackedObjects(bindings.LIMITER_OBJECTS) };
  startService(environment, () => clock.nowMs);
  return environment;
}
