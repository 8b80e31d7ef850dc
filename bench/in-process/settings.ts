/** Consumes of many users, the same with idempotency keys, of one user, or of one user far over the limit. */
export type Workload = "spread" | "keyed" | "hot" | "flood";

/** One run of a driver. A driver gets it as JSON, in its only argument. */
export interface Settings {
  /** What decides: a name in `sides.ts` or in `drive.py`. */
  readonly side: string;
  readonly workload: Workload;
  /** Decisions in flight, all the time. */
  readonly inFlight: number;
  /** Decisions due a second, whether earlier ones were answered or not, in place of `inFlight`. */
  readonly perSecond?: number;
  readonly sessions?: number;
  readonly warmUpSeconds: number;
  readonly seconds: number;
  /** The URL of the service, empty without one. */
  readonly url: string;
  readonly token: string;
  readonly redisPort: number;
  /** The process of the service or of Redis. */
  readonly serverPid: number;
  /** The script that decides in Redis. */
  readonly script: string;
  /** Of the caller a minute and an hour, of the address a minute. */
  readonly limits: readonly [number, number, number];
}

/** What a driver prints as JSON. */
export interface Result {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of the driver's process a decision. */
  readonly clientMicros: number;
  /** Processor time of the service's or of Redis's process a decision. */
  readonly serverMicros: number;
}
