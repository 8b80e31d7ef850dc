import { appOf } from "../http/app";
import { ROUTES } from "../http/routes";
import { serviceOf, startService } from "../service";
import type { TestClockObject, TestStatsObject } from "./object";
import { clock } from "./object";
import { TrackedObjects } from "./objects";
import { TEST_ROUTES, type TestEnv } from "./routes";

/**
 * The entry of `npm start -- --test-clock`: the service as always, on a clock that moves when it is told to. No other
 * entry imports any of this, so that what is deployed can't have it.
 */
export { TestClockObject as LimiterObject, TestStatsObject as StatsObject } from "./object";

interface Bindings {
  readonly LIMITER_OBJECTS: DurableObjectNamespace<TestClockObject>;
  readonly LIMITER_STATS: DurableObjectNamespace<TestStatsObject>;
}

const app = appOf<TestEnv>([...ROUTES, ...TEST_ROUTES]);
const environments = new WeakMap<Bindings, TestEnv>();

export default {
  async fetch(request, bindings, context) {
    const environment = environmentOf(bindings);
    const response = await app(request, environment, context);
    // On a clock that stands still a denial would be believed for ever: here whatever may have changed its figures ends it.
    if (response.ok && request.method === "POST" && !request.url.endsWith("/test/clock"))
      serviceOf(environment).limiter.clearDenialCache();
    return response;
  },
} satisfies ExportedHandler<Bindings>;

function environmentOf(bindings: Bindings): TestEnv {
  const known = environments.get(bindings);
  if (known) return known;
  const objects = new TrackedObjects(bindings.LIMITER_OBJECTS);
  const environment = { ...bindings, LIMITER_OBJECTS: objects };
  startService(environment, () => clock.nowMs);
  environments.set(bindings, environment);
  return environment;
}
