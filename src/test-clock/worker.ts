import { appOf } from "../http/app";
import { ROUTES } from "../http/routes";
import { sendingCounts } from "../http/sending-counts";
import { serviceOf } from "../service";
import { type Bindings, environmentOf } from "./environment";
import { TEST_ROUTES, type TestEnv } from "./routes";

/**
 * The entry of `npm start -- --test-clock`: the service on a clock that tests move. No other entry imports this, so it
 * is never deployed.
 */
export { TestHubObject as HubObject } from "./hub";
export {
  TestAuditObject as AuditObject,
  TestClockObject as LimiterObject,
  TestStatsObject as StatsObject,
} from "./object";

const app = sendingCounts(appOf<TestEnv>([...ROUTES, ...TEST_ROUTES]));

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
