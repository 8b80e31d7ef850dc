import type { WorkerOptions } from "miniflare";
import { startLocalService } from "../src/local/service";

interface BenchWorker {
  readonly script: string;
  readonly dataDirectory: string;
  readonly variables: Parameters<typeof startLocalService>[0]["variables"];
  /** Durable Object classes, by binding. */
  readonly objects: Readonly<Record<string, string>>;
  readonly inspectorPort?: number;
}

/** The Durable Object of the service. */
export const LIMITER_OBJECTS = { LIMITER_OBJECTS: "LimiterObject" };

/** Starts a Worker on the runtime of `npm start`, as `npm start` does, on a free port. */
export function startWorker({ objects, ...options }: BenchWorker): ReturnType<typeof startLocalService> {
  const bindings = Object.entries(objects).map(([binding, className]) => [binding, { className, useSQLite: true }]);
  const workerOptions: Partial<WorkerOptions> = {
    compatibilityDate: "2026-04-24",
    durableObjects: Object.fromEntries(bindings),
  };
  return startLocalService({ ...options, host: "127.0.0.1", port: 0, workerOptions });
}
