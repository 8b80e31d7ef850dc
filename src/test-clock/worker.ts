import { appOf } from "../http/app";
import { ROUTES } from "../http/routes";
import { serviceOf } from "../service";
import { type Bindings, environmentOf } from "./environment";
import { TEST_ROUTES, type TestEnv } from "./routes";

/**
 * The entry of `npm start -- --test-clock`: the service as always, on a clock that moves when it is told to. No other
 * entry imports any of this, so that what is deployed can't have it.
 */
export { TestHubObject as HubObject } from "./hub";
export { TestClockObject as LimiterObject, TestStatsObject as StatsObject } from "./object";

const app = appOf<TestEnv>([...ROUTES, ...TEST_ROUTES]);

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
