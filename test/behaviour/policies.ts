/** The policies of the suites, beside chat. */
export const POLICIES = {
  upload: {
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["10 per 2 seconds", "100/minute"] },
      { name: "org", by: ["org"], limits: ["1000000 per 1 day"] },
    ],
  },
  trial: {
    layers: [
      { name: "ip", by: ["ip"], limits: ["3/minute"], mode: "shadow" },
      { name: "caller", by: ["user"], limits: ["5/minute"] },
      { name: "org", by: ["org"], limits: ["2/minute"], mode: "shadow" },
    ],
  },
  rehearsal: {
    mode: "shadow",
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["5/minute", "6/hour"] },
      { name: "ip", by: ["ip"], limits: ["7/minute"] },
    ],
  },
  jobs: {
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["2 concurrent per 5 minutes", "10 per 5 minutes"] },
      { name: "ip", by: ["ip"], limits: ["3 concurrent/minute"] },
    ],
  },
  drill: {
    layers: [
      { name: "caller", by: ["user"], limits: ["3 concurrent/minute"] },
      { name: "ip", by: ["ip"], limits: ["1 concurrent/minute"], mode: "shadow" },
    ],
  },
  dream: { mode: "shadow", layers: [{ name: "caller", by: ["user"], limits: ["1 concurrent/minute"] }] },
  llm: {
    layers: [
      { name: "requests", by: ["user"], limits: ["3/minute"] },
      { name: "tokens", by: ["user"], limits: ["1000/minute"] },
      { name: "budget", by: ["org"], limits: ["2000/day"] },
    ],
  },
  burst: { layers: [{ name: "caller", by: ["user"], limits: ["1000/minute"] }] },
};

/** Long, so that a busy machine does not fail the suites. */
export const PATIENT = { RATE_LIMIT_DEADLINE_MS: "10000" };
