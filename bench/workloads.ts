/** The policy `chat` with limits that nobody reaches, and the same policy with limits that one user exceeds at once. */
export const LIMITS = { chat: [1_000_000, 1_000_000, 1_000_000], flood: [5, 60, 30] } as const;

/** These limits as variables of the service. */
export const LIMIT_VARIABLES = {
  RATE_LIMIT_CHAT_PER_MIN: String(LIMITS.chat[0]),
  RATE_LIMIT_CHAT_PER_HOUR: String(LIMITS.chat[1]),
  RATE_LIMIT_CHAT_IP_PER_MIN: String(LIMITS.chat[2]),
  RATE_LIMIT_POLICIES: JSON.stringify({
    flood: {
      layers: [
        {
          name: "caller",
          by: ["user", "ip"],
          limits: [`${LIMITS.flood[0]}/minute`, `${LIMITS.flood[1]}/hour`],
        },
        { name: "ip", by: ["ip"], limits: [`${LIMITS.flood[2]}/minute`] },
      ],
    },
  }),
};

export interface Workload {
  readonly description: string;
  readonly path: string;
  readonly bodies: readonly unknown[];
  /** The statuses that answers may have. Any other status fails the run. */
  readonly statuses: readonly string[];
  readonly decisionsPerRequest: number;
}

export type WorkloadName = "admitted" | "batch" | "hot" | "flood" | "check" | "anonymous";

const USERS = 1_000;
const PER_BATCH = 32;

const address = (i: number) => `10.0.${i >> 8}.${i & 255}`;
const decision = (i: number) => ({ policy: "chat", subject: { user: `u_${i}`, ip: address(i) } });
/** The keys of all workloads. */
export const KEYS = Array.from({ length: USERS }, (_, i) => [`user:u_${i}`, `ip:${address(i)}`]).flat();
const signedIn = Array.from({ length: USERS }, (_, i) => decision(i));
// A stride without a common factor with the number of users spreads a batch over the users, and uses all of them.
const batches = Array.from({ length: USERS }, (_, batch) => ({
  requests: Array.from({ length: PER_BATCH }, (_, i) => ({
    op: "consume",
    ...decision((batch * PER_BATCH + i * 37) % USERS),
  })),
}));

const ADMITTED = { statuses: ["200"], decisionsPerRequest: 1 };

export const WORKLOADS: Readonly<Record<WorkloadName, Workload>> = {
  admitted: {
    ...ADMITTED,
    description: "consume, admitted, two layers, 1,000 users and addresses",
    path: "/v1/consume",
    bodies: signedIn,
  },
  batch: {
    ...ADMITTED,
    description: `the same in batches of ${PER_BATCH}`,
    path: "/v1/batch",
    bodies: batches,
    decisionsPerRequest: PER_BATCH,
  },
  hot: { ...ADMITTED, description: "consume, admitted, one hot key", path: "/v1/consume", bodies: [decision(USERS)] },
  flood: {
    ...ADMITTED,
    description: "consume, one user far over the limit",
    path: "/v1/consume",
    bodies: [{ policy: "flood", subject: { user: "flood", ip: "192.0.2.1" } }],
    statuses: ["200", "429"],
  },
  check: { ...ADMITTED, description: "check, two layers", path: "/v1/check", bodies: signedIn },
  anonymous: {
    ...ADMITTED,
    description: "consume, admitted, an address alone",
    path: "/v1/consume",
    bodies: Array.from({ length: USERS }, (_, i) => ({ policy: "chat", subject: { ip: address(i + USERS) } })),
  },
};
