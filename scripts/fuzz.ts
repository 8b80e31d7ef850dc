import { inspect, parseArgs } from "node:util";
import fc from "fast-check";
import { resourcesOf } from "../tools/resources";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";
import { type Case, caseOf, POLICY, WITNESSES, witnessOf } from "./fuzz/cases";
import { mistakesInReading, VARIABLES } from "./fuzz/configuration";
import { mistakesIn, usedAsTold } from "./fuzz/judge";
import { ADMIN_TOKEN, CALLER_TOKEN } from "./fuzz/request";
import { exchange } from "./fuzz/wire";

/**
 * `npm run fuzz -- --requests 100000`: the real service is sent what nobody should send, over sockets of our own, and
 * its configuration is read from what nobody should set. Each case is made of the seed and its number alone:
 * `--seed N --only 123` repeats one.
 */
const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "5000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    only: { type: "string" },
  },
});
const SEED = Number(values.seed);
const REQUESTS = Number(values.requests);
const CONNECTIONS = 24;
/** Cases between two looks at the service: does it still count right, how much memory does it hold? */
const ROUND = 1_000;
/** Half a header is waited for 15 s by the runtime, half a body 10 s by the service. */
const BOUND_MS = 20_000;
const MOST_GROWTH_BYTES = 128 * 2 ** 20;
const MOST_TOLD = 20;

const folder = temporaryFolder();

const byStatus = new Map<string, number>();
let failures = 0;

function fail(mistakes: readonly string[], number: number, what: string, input: string): void {
  if (mistakes.length === 0) return;
  failures++;
  if (failures > MOST_TOLD) return;
  const choice = number < 0 ? `--requests ${REQUESTS}` : `--only ${number}`;
  console.log(`\n${what}: npm run fuzz -- --seed ${SEED} ${choice}`);
  for (const mistake of mistakes) console.log(`  ${mistake}`);
  console.log(`  sent: ${input.slice(0, 600)}`);
}

const sentBy = ({ parts }: Case) => inspect(Buffer.concat(parts).toString("latin1"), { breakLength: Infinity });

const headers = { Authorization: `Bearer ${ADMIN_TOKEN}`, "Content-Type": "application/json" };

async function ask(service: ServiceProcess, path: string, body?: unknown): Promise<unknown> {
  const init = body === undefined ? { headers } : { headers, method: "POST", body: JSON.stringify(body) };
  const response = await service.fetch(path, init);
  if (response.status !== 200) throw new Error(`${path} was answered with ${response.status}`);
  return response.json();
}

interface Decided {
  readonly limits: readonly { readonly used: number }[];
}

/** What these users have in use by now. */
async function usedBy(service: ServiceProcess, users: readonly string[]): Promise<number[]> {
  const used: number[] = [];
  for (let at = 0; at < users.length; at += 100) {
    const requests = users
      .slice(at, at + 100)
      .map((user) => ({ op: "check", policy: POLICY, subject: { user, ip: "198.51.100.1" } }));
    const { results } = (await ask(service, "/v1/batch", { requests })) as { results: { body: Decided }[] };
    used.push(...results.map(({ body }) => body.limits[0]?.used ?? Number.NaN));
  }
  return used;
}

/** Every counter of every witness, with the events behind it. */
async function witnesses(service: ServiceProcess): Promise<string> {
  const states = [];
  for (let i = 0; i < WITNESSES; i++) {
    const { user, ip } = witnessOf(i);
    for (const key of [`user:${user}`, `ip:${ip}`])
      states.push(await ask(service, `/v1/keys/${encodeURIComponent(key)}`));
  }
  // But for the time until all of it has left the window, which goes on.
  return JSON.stringify(states, (name, value) => (name === "reset_seconds" ? undefined : value));
}

/** Sends a case, and tells what its user must have in use by then, if that is known. */
async function send(service: ServiceProcess, number: number): Promise<{ asked: Case; told: number | undefined }> {
  const asked = caseOf(SEED, number);
  const ended = await exchange(new URL(service.url), asked, BOUND_MS);
  fail(mistakesIn(asked, ended), number, asked.what, sentBy(asked));
  const statuses = ended.answers.length > 0 ? ended.answers.map(({ status }) => String(status)) : ["closed"];
  for (const status of statuses) byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
  return { asked, told: usedAsTold(asked, POLICY, ended) };
}

/** Those who say nothing for so long that nobody waits for them until all others are done. */
const stalled: Promise<unknown>[] = [];

/** Sends these cases, some at a time, and holds what is stored afterwards against what was told. */
async function round(service: ServiceProcess, numbers: readonly number[]): Promise<void> {
  const toldBy: { asked: Case; number: number; told: number }[] = [];
  let next = 0;
  const client = async () => {
    while (next < numbers.length) {
      const number = numbers[next++] as number;
      const sending = send(service, number);
      if (caseOf(SEED, number).ending === "stall") {
        stalled.push(sending);
        continue;
      }
      const { asked, told } = await sending;
      if (told !== undefined) toldBy.push({ asked, number, told });
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  const used = await usedBy(
    service,
    toldBy.map(({ asked }) => asked.user),
  );
  toldBy.forEach(({ asked, number, told }, i) => {
    if (used[i] !== told) fail([`in use are ${used[i]}, told were ${told}`], number, asked.what, sentBy(asked));
  });
}

async function fuzzService(numbers: readonly number[]): Promise<string> {
  const service = await ServiceProcess.start({
    LIMITER_TOKENS: CALLER_TOKEN,
    LIMITER_ADMIN_TOKENS: ADMIN_TOKEN,
    LIMITER_DATA_DIR: folder,
    RATE_LIMIT_INLINE: "1",
    // A machine that is busy is no fault of the service.
    RATE_LIMIT_DEADLINE_MS: "20000",
    RATE_LIMIT_POLICIES: JSON.stringify({
      [POLICY]: {
        layers: [
          { name: "caller", by: ["user", "ip"], limits: ["1000000/day"] },
          { name: "ip", by: ["ip"], limits: ["1000000/day"] },
        ],
      },
    }),
  });
  for (let i = 0; i < WITNESSES; i++)
    await service.fetch("/v1/consume", {
      method: "POST",
      headers: { ...headers, "Idempotency-Key": "witnessed" },
      body: JSON.stringify({ policy: POLICY, subject: witnessOf(i), cost: 3 }),
    });
  const before = await witnesses(service);
  const rounds = Math.ceil(numbers.length / ROUND);
  let warmBytes = 0;
  let residentBytes = 0;
  for (let i = 0; i < rounds; i++) {
    await round(service, numbers.slice(i * ROUND, (i + 1) * ROUND));
    ({ residentBytes } = resourcesOf(service));
    // The first fifth warms up: caches fill, and code is compiled.
    if (i <= rounds / 5) warmBytes = Math.max(warmBytes, residentBytes);
    process.stderr.write(`\r${Math.min((i + 1) * ROUND, numbers.length)} sent, ${failures} failures `);
  }
  await Promise.all(stalled);
  const growth = residentBytes - warmBytes;
  if (growth > MOST_GROWTH_BYTES) fail([`memory has grown by ${growth} bytes`], -1, "all of it", "");
  if ((await witnesses(service)) !== before) fail(["what was refused has changed a counter"], -1, "all of it", "");
  for (const fault of service.output.match(/a request failed[^}]*/g) ?? []) fail([fault], -1, "the service's log", "");
  await service.stop();
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
  return `memory ${mib(warmBytes)} MiB when warm, ${mib(residentBytes)} MiB at the end`;
}

/** As many configurations as requests; of one that fails fast-check finds the simplest, and says how to repeat it. */
function fuzzConfiguration(): void {
  const isRight = fc.property(VARIABLES, (variables) => mistakesInReading(variables).length === 0);
  const result = fc.check(isRight, { seed: SEED, numRuns: REQUESTS });
  if (result.failed) fail([fc.defaultReportMessage(result) ?? ""], -1, "configuration", inspect(result.counterexample));
}

const startedMs = Date.now();
const numbers = values.only === undefined ? Array.from({ length: REQUESTS }, (_, i) => i) : [Number(values.only)];
if (values.only === undefined) fuzzConfiguration();
const memory = await fuzzService(numbers);
const statuses = [...byStatus].sort().map(([status, count]) => `${count} × ${status}`);
console.log(`
seed ${SEED}: ${numbers.length} requests and as many configurations in ${Math.round((Date.now() - startedMs) / 1_000)} s
answers: ${statuses.join(", ")}
${memory}
failures: ${failures}`);
process.exitCode = failures > 0 ? 1 : 0;
