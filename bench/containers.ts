import { randomUUID } from "node:crypto";
import { Limiter } from "../src/client";
import { consume } from "../src/core/decide";
import { EventLog } from "../src/core/sliding-window";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";
import { TOKEN } from "./load";

/**
 * `npm run bench:containers` sends requests of one user through ten containers, a hundred at once in each. The limit is 5 a
 * minute. First each container counts in memory, then this service counts, then again after a SIGKILL and a restart
 * within the minute.
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

/** A container with an exact counter in its own memory. */
function inMemory(): Ask {
  const counter = { log: new EventLog(), limits: [{ max: 5, windowMs: 60_000 }], cost: 1 };
  return async () => consume([counter], Date.now()).allowed;
}

const subject = { user: `u_${randomUUID()}`, ip: "203.0.113.7" };

/** A container that asks the service. The client retries a lost connection. */
function askService({ url }: ServiceProcess): Ask {
  const limiter = new Limiter({ url, token: TOKEN, deadlineMs: 60_000 });
  return async () => {
    const { allowed, error } = await limiter.consume({ policy: "chat", subject });
    if (error) throw error;
    return allowed;
  };
}

function show(name: string, { admitted, denied }: { admitted: number; denied: number }): void {
  console.log(`${name.padEnd(52)} admitted ${String(admitted).padStart(3)}   denied ${denied}`);
}

const ten = (make: () => Ask) => Array.from({ length: CONTAINERS }, make);
const variables = { LIMITER_TOKENS: TOKEN, LIMITER_DATA_DIR: temporaryFolder() };
console.log(
  `${CONTAINERS} containers, ${AT_ONCE} requests at once each, ${CONTAINERS * REQUESTS} requests of one user, 5 a minute:`,
);
show("a counter in each container's memory", await fromAllContainers(ten(inMemory)));

const before = await ServiceProcess.start(variables);
const startedMs = Date.now();
const first = await fromAllContainers(ten(() => askService(before)));
show("this service", first);
await before.killAll();

const after = await ServiceProcess.start(variables);
const second = await fromAllContainers(ten(() => askService(after)));
const elapsedMs = Date.now() - startedMs;
show(`this service, after a SIGKILL, ${Math.round(elapsedMs / 1_000)} s later`, second);
await after.stop();

if (elapsedMs > 60_000)
  console.error("The run took longer than a minute, so it says nothing about the restart. Try again.");
else if (first.admitted !== 5 || second.admitted !== 0) {
  console.error("Not exact: 5 requests must be admitted before the restart, and none after it.");
  process.exitCode = 1;
}
