import { appOf } from "../http/app";
import { ROUTES } from "../http/routes";
import { serviceOf, startService } from "../service";
import { clock, type TestClockObject, type TestStatsObject } from "./object";
import { TrackedObjects } from "./objects";
import { TEST_ROUTES, type TestEnv } from "./routes";

/**
 * The entry of `npm start -- --test-clock`: the service on a clock that tests move. No other entry imports this, so it
 * is never deployed.
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
    // On a clock that stands still, cached denials never expire: clear them after each call that may change counters.
    if (response.ok && request.method === "POST" && !request.url.endsWith("/test/clock"))
      serviceOf(environment).limiter.clearDenialCache();
    return response;
  },
} satisfies ExportedHandler<Bindings>;

function environmentOf(bindings: Bindings): TestEnv {
  const existing = environments.get(bindings);
  if (existing) return existing;
  const objects = new TrackedObjects(bindings.LIMITER_OBJECTS);
  const environment = { ...bindings, LIMITER_OBJECTS: objects };
  startService(environment, () => clock.nowMs);
  environments.set(bindings, environment);
  return environment;
}
