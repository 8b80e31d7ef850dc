import { randomUUID } from "node:crypto";
import { Limiter } from "../src/client";
import { consume } from "../src/core/decide";
import { EventLog } from "../src/core/sliding-window";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";
import { TOKEN } from "./load";

/**
 * `npm run bench:containers`: one user sends through ten containers with a hundred requests at once each; the limit is
 * 5 a minute. First with a counter in each container's memory, then with this service, and again after a SIGKILL and a
 * restart within the minute.
 */
const CONTAINERS = 10;
const AT_ONCE = 100;
const REQUESTS = 1_000;

/** Asks whether a request may pass. */
type Ask = () => Promise<boolean>;

async function fromAllContainers(containers: readonly Ask[]): Promise<{ admitted: number; denied: number }> {
  const total = { admitted: 0, denied: 0 };
  const connection = async (ask: Ask) => {
    for (let i = 0; i < REQUESTS / AT_ONCE; i++) (await ask()) ? total.admitted++ : total.denied++;
  };
  await Promise.all(containers.flatMap((ask) => Array.from({ length: AT_ONCE }, () => connection(ask))));
  return total;
}

/** A container that counts by itself, as exactly as can be. */
function inMemory(): Ask {
  const counter = { log: new EventLog(), limits: [{ max: 5, windowMs: 60_000 }] };
  return async () => consume([counter], 1, Date.now()).allowed;
}

const subject = { user: `u_${randomUUID()}`, ip: "203.0.113.7" };

/** A container that asks the service, as a backend does: a connection that is lost is no decision, but asked again. */
function asking({ url }: ServiceProcess): Ask {
  const limiter = new Limiter({ url, token: TOKEN, deadlineMs: 60_000 });
  return async () => {
    const { allowed, error } = await limiter.consume({ policy: "chat", subject });
    if (error) throw error;
    return allowed;
  };
}

function show(what: string, { admitted, denied }: { admitted: number; denied: number }): void {
  console.log(`${what.padEnd(52)} admitted ${String(admitted).padStart(3)}   denied ${denied}`);
}

const ten = (make: () => Ask) => Array.from({ length: CONTAINERS }, make);
const variables = { LIMITER_TOKENS: TOKEN, LIMITER_DATA_DIR: temporaryFolder() };
console.log(
  `${CONTAINERS} containers, ${AT_ONCE} requests at once each, ${CONTAINERS * REQUESTS} requests of one user, 5 a minute:`,
);
show("a counter in each container's memory", await fromAllContainers(ten(inMemory)));

const before = await ServiceProcess.start(variables);
const startedMs = Date.now();
const first = await fromAllContainers(ten(() => asking(before)));
show("this service", first);
await before.killAll();

const after = await ServiceProcess.start(variables);
const second = await fromAllContainers(ten(() => asking(after)));
const elapsedMs = Date.now() - startedMs;
show(`this service, after a SIGKILL, ${Math.round(elapsedMs / 1_000)} s later`, second);
await after.stop();

if (elapsedMs > 60_000) console.error("This took longer than the minute, so that it says nothing about the restart.");
else if (first.admitted !== 5 || second.admitted !== 0) {
  console.error("Not exact: 5 must be admitted, and none after the restart.");
  process.exitCode = 1;
}
