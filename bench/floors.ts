import { resolve } from "node:path";
import { bundle } from "../src/local/bundle";
import type { ServiceProcess } from "../tools/service-process";
import { TOKEN } from "./load";
import { startWorker } from "./worker";
import { WORKLOADS } from "./workloads";

/** Work that any decision must do at least. No decision can be faster. */
export interface Floor {
  readonly name: FloorName;
  readonly description: string;
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

/** More requests than the limit of the flooding user, even if a minute ends in between. */
const MOST_TRIES = 100;

/**
 * Starts the floors on the runtime of `npm start`, with data on disk. They send recorded answers of the service, which must
 * be running.
 */
export async function startFloors(service: ServiceProcess, dataDirectory: string) {
  const { admitted, flood } = WORKLOADS;
  const ADMITTED = await record(service, admitted.bodies[0]);
  let DENIED = ADMITTED;
  for (let i = 0; i < MOST_TRIES && DENIED.status !== 429; i++) DENIED = await record(service, flood.bodies[0]);
  if (DENIED.status !== 429) throw new Error(`The service did not deny any of ${MOST_TRIES} requests of one user.`);
  const script = await bundle(resolve(import.meta.dirname, "workers/floors.ts"));
  const { url, stop } = await startWorker({
    dataDirectory,
    script,
    variables: { ADMITTED, DENIED },
    objects: { FLOORS: "FloorObject" },
  });
  const floors = Object.entries(FLOORS).map(
    ([name, description]): Floor => ({ name: name as FloorName, description, url: `${url.origin}/${name}` }),
  );
  return { floors, stop };
}

/** Records an answer of the service, without the headers that the runtime adds. */
async function record(service: ServiceProcess, body: unknown) {
  const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
  const response = await service.fetch("/v1/consume", { method: "POST", headers, body: JSON.stringify(body) });
  const kept = [...response.headers].filter(([name]) => !["content-length", "date", "connection"].includes(name));
  return { status: response.status, headers: Object.fromEntries(kept), body: await response.text() };
}
