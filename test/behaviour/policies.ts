/** The policies beside chat that the suites ask for. */
export const POLICIES = {
  upload: {
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["10 per 2 seconds", "100/minute"] },
      { name: "org", by: ["org"], limits: ["1000000 per 1 day"] },
    ],
  },
  burst: { layers: [{ name: "caller", by: ["user"], limits: ["1000/minute"] }] },
};
