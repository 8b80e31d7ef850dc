import { resolve } from "node:path";
import type { WorkerOptions } from "miniflare";
import { bundle } from "../src/local/bundle";
import { startLocalService } from "../src/local/service";
import type { ServiceProcess } from "../tools/service-process";
import { TOKEN } from "./load";
import { WORKLOADS } from "./workloads";

/** Something that a decision can't be faster than. */
export interface Floor {
  readonly name: FloorName;
  readonly does: string;
  readonly url: string;
}

const FLOORS = {
  empty: "an empty Worker's answer",
  constant: "a Worker that reads the body and answers a constant, as large as a denial",
  object: "an empty call of an object, answered together with those that came with it",
  "object-alone": "the same, answered by itself",
  row: "a decision's bytes in and out, one object call, one durable row, group commit, no decision",
  "row-alone": "the same, a commit a call",
} as const;

export type FloorName = keyof typeof FLOORS;

/**
 * The floors on the runtime that `npm start` uses, started as it does, data on disk. They answer what the service
 * answers now, so it must be there.
 */
export async function startFloors(service: ServiceProcess, dataDirectory: string) {
  const { admitted, flood } = WORKLOADS;
  const ADMITTED = await record(service, admitted.bodies[0]);
  let DENIED = ADMITTED;
  while (DENIED.status !== 429) DENIED = await record(service, flood.bodies[0]);
  const workerOptions: Partial<WorkerOptions> = {
    compatibilityDate: "2026-04-24",
    durableObjects: { FLOORS: { className: "FloorObject", useSQLite: true } },
  };
  const script = await bundle(resolve(import.meta.dirname, "workers/floors.ts"));
  const { url, stop } = await startLocalService({
    host: "127.0.0.1",
    port: 0,
    dataDirectory,
    script,
    variables: { ADMITTED, DENIED },
    workerOptions,
  });
  const floors = Object.entries(FLOORS).map(
    ([name, does]): Floor => ({ name: name as FloorName, does, url: `${url.origin}/${name}` }),
  );
  return { floors, stop };
}

/** What the service answers, without what the runtime adds by itself. */
async function record(service: ServiceProcess, body: unknown) {
  const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
  const response = await service.fetch("/v1/consume", { method: "POST", headers, body: JSON.stringify(body) });
  const kept = [...response.headers].filter(([name]) => !["content-length", "date", "connection"].includes(name));
  return { status: response.status, headers: Object.fromEntries(kept), body: await response.text() };
}
