import { limiterTest } from "../../src/testing/index.js";

/** A limiter with policies that count by other attributes, and that limit what is concurrent. */
export const test = limiterTest({
  variables: {
    RATE_LIMIT_POLICIES: JSON.stringify({
      llm: { layers: [{ name: "caller", by: ["user", "ip"], limits: ["10/minute", "2 concurrent per 5 minutes"] }] },
      member: { layers: [{ name: "caller", by: ["user"], limits: ["3/minute"] }] },
      org: { layers: [{ name: "org", by: ["org"], limits: ["3/minute"] }] },
    }),
  },
});
