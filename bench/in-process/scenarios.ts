import { FLEXIBLE, LUA_PEER, SERVICE } from "../names";
import type { Workload } from "./settings";

/** One side of a comparison: what decides, and what it promises. */
export interface Side {
  /** The name of the side in its driver. */
  readonly side: string;
  readonly name: string;
  readonly promises: string;
  /** The name of its bars in the chart. */
  readonly series: string;
  readonly isService?: boolean;
  readonly workload?: Workload;
  /** The least that its decisions a second should be, as a multiple of the peer's. */
  readonly atLeast?: number;
  /** The same of processor time of the client's process, the other way round. */
  readonly processorAtLeast?: number;
}

/** Sides that are measured in turn. The ratios are to the side whose name in the driver is `peer`. */
export interface Scenario {
  readonly name: string;
  /** The name in the chart. */
  readonly label: string;
  readonly driver: "node" | "python";
  readonly inFlight: number;
  readonly sessions?: number;
  readonly peer: string;
  readonly sides: readonly Side[];
}

const KEYED_SERIES = `${SERVICE}, idempotent`;

const EXACT = "exact, durable, all or nothing";
const IDEMPOTENT = `${EXACT}, idempotent`;
const session = { side: "session", name: "a session", promises: EXACT, series: SERVICE, isService: true };
const keyed = {
  ...session,
  name: "a session, each decision with an idempotency key",
  promises: IDEMPOTENT,
  series: KEYED_SERIES,
  workload: "keyed" as const,
};
const script = { side: "script", name: "ioredis, one Lua script", promises: `${EXACT} on one Redis`, series: LUA_PEER };
const flexible = {
  side: "flexible",
  name: "rate-limiter-flexible on ioredis",
  promises: "up to twice the limit where two fixed windows meet, durable, each limit by itself",
  series: FLEXIBLE,
};
const limits = {
  name: "`limits` on Redis, moving window, three hits",
  promises: "exact for each limit, durable, each limit by itself",
  series: "limits",
};
const redisPy = { ...script, name: "redis-py, one Lua script" };

/** The sides under load of many users: with and without idempotency keys, beside both peers. */
const spread = (inFlight: number, atLeast: number, keyedAtLeast: number): Scenario => ({
  name: `Node, ${inFlight} in flight`,
  label: `${inFlight} in flight`,
  driver: "node",
  inFlight,
  peer: "script",
  sides: [{ ...session, atLeast }, { ...keyed, atLeast: keyedAtLeast }, script, flexible],
});

export const SPREAD = spread(128, 1.6, 1.4);

export const SCENARIOS: readonly Scenario[] = [
  spread(32, 1.3, 1.2),
  SPREAD,
  {
    name: "Node, one hot key, 128 in flight",
    label: "hot key",
    driver: "node",
    inFlight: 128,
    sessions: 10,
    peer: "script",
    sides: [
      { ...session, name: "ten sessions", workload: "hot", atLeast: 1 },
      { ...script, workload: "hot" },
    ],
  },
  {
    name: "Node, a flood of one user, 128 in flight",
    label: "flood",
    driver: "node",
    inFlight: 128,
    peer: "script",
    sides: [
      { ...session, workload: "flood", atLeast: 1.5 },
      { ...script, workload: "flood" },
    ],
  },
  {
    name: "Python, asyncio, 64 in flight",
    label: "asyncio",
    driver: "python",
    inFlight: 64,
    peer: "limits, async",
    sides: [
      {
        side: "AsyncLimiter",
        name: "`AsyncLimiter` over a session",
        promises: IDEMPOTENT,
        series: KEYED_SERIES,
        isService: true,
        atLeast: 3,
        processorAtLeast: 3,
      },
      { ...limits, side: "limits, async" },
      { ...redisPy, side: "script, async" },
    ],
  },
  {
    name: "Python, 64 threads",
    label: "threads",
    driver: "python",
    inFlight: 64,
    peer: "limits",
    sides: [
      {
        side: "Limiter",
        name: "`Limiter` over HTTP",
        promises: IDEMPOTENT,
        series: KEYED_SERIES,
        isService: true,
      },
      { ...limits, side: "limits" },
      redisPy,
    ],
  },
];
