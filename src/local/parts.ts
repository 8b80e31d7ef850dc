import type { WorkerOptions } from "miniflare";

/** What the service runs. A checkout builds it at every start; the package has it ready. */
export interface Parts {
  readonly script: string;
  /** The bindings and compatibility settings of `wrangler.toml`. */
  readonly workerOptions: Partial<WorkerOptions>;
}
