import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ServiceProcess } from "../scripts/local/process";
import { consume } from "../src/core/decide";
import { EventLog } from "../src/core/log";
import { load, TOKEN } from "./load";

/**
 * `npm run bench:containers`: one user sends through ten containers with a hundred connections each; the limit is 5 a
 * minute. First with a counter in each container's memory, then with this service, and again after a SIGKILL and a
 * restart within the minute.
 */
const CONTAINERS = 10;
const CONNECTIONS = 100;
const REQUESTS = 1_000;

async function fromAllContainers(urls: string[], body: () => unknown): Promise<Record<string, number>> {
  const results = await Promise.all(urls.map((url) => load({ url, connections: CONNECTIONS, amount: REQUESTS, body })));
  const total: Record<string, number> = {};
  for (const { byStatus } of results)
    for (const [status, count] of Object.entries(byStatus)) total[status] = (total[status] ?? 0) + count;
  return total;
}

/** A container that counts by itself, as exactly as can be. */
async function startMemoryContainer(): Promise<string> {
  const counter = { log: new EventLog(), limits: [{ max: 5, windowMs: 60_000 }] };
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.writeHead(consume([counter], 1, Date.now()).allowed ? 200 : 429).end();
    });
  });
  await once(server.unref().listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function show(what: string, byStatus: Record<string, number>): void {
  console.log(
    `${what.padEnd(52)} admitted ${String(byStatus["200"] ?? 0).padStart(3)}   denied ${byStatus["429"] ?? 0}`,
  );
}

const subject = { user: `u_${randomUUID()}`, ip: "203.0.113.7" };
const variables = { LIMITER_TOKENS: TOKEN, LIMITER_DATA_DIR: mkdtempSync(join(tmpdir(), "limiter-")) };
console.log(
  `${CONTAINERS} containers, ${CONNECTIONS} connections each, ${CONTAINERS * REQUESTS} requests of one user, 5 a minute:`,
);

const memory = await Promise.all(Array.from({ length: CONTAINERS }, startMemoryContainer));
show("a counter in each container's memory", await fromAllContainers(memory, () => ({})));

const before = await ServiceProcess.start(variables);
const toService = ({ url }: ServiceProcess) => Array.from({ length: CONTAINERS }, () => `${url}/v1/consume`);
const startedMs = Date.now();
const first = await fromAllContainers(toService(before), () => ({ policy: "chat", subject }));
show("this service", first);
await before.killAll();

const after = await ServiceProcess.start(variables);
const second = await fromAllContainers(toService(after), () => ({ policy: "chat", subject }));
show(`this service, after a SIGKILL, ${Math.round((Date.now() - startedMs) / 1_000)} s later`, second);
await after.stop();

if (first["200"] !== 5 || second["200"] !== undefined) {
  console.error("Not exact: 5 must be admitted, and none after the restart.");
  process.exitCode = 1;
}
