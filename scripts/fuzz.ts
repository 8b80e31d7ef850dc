import { inspect, parseArgs } from "node:util";
import fc from "fast-check";
import { resourcesOf } from "../tools/resources";
import { ServiceProcess } from "../tools/service-process";
import { SessionCaller } from "../tools/session";
import { temporaryFolder } from "../tools/temporary-folder";
import { caseOf, POLICY, WITNESSES, witnessOf } from "./fuzz/cases";
import { mistakesInReading, VARIABLES } from "./fuzz/configuration";
import { mistakesIn, usedAsReported } from "./fuzz/judge";
import { ADMIN_TOKEN, CALLER_TOKEN } from "./fuzz/request";
import type { SessionCase } from "./fuzz/session-cases";
import { chargedAsReported, mistakesInSession } from "./fuzz/session-judge";
import { exchangeOverSession, statusOf } from "./fuzz/session-wire";
import { exchange } from "./fuzz/wire";

/**
 * `npm run fuzz -- --requests 100000` sends malformed requests and sessions to the real service over raw sockets, and reads
 * as many malformed configurations. The seed and its number make a case: `--seed N --only 123` repeats one.
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
/** As many calls as a batch may have. */
const MOST_IN_BATCH = 100;
/** How many cases a round has. After each round the counts and the memory of the service are checked. */
const ROUND = 1_000;
/** Longest time of an exchange. The runtime waits 15 s for the rest of a header, the service 10 s for the rest of a body. */
const LONGEST_EXCHANGE_MS = 20_000;
const MOST_GROWTH_BYTES = 128 * 2 ** 20;
const MOST_PRINTED_FAILURES = 20;

const folder = temporaryFolder();

const byStatus = new Map<string, number>();
let messagesAnswered = 0;
let failures = 0;

function fail(mistakes: readonly string[], number: number, description: string, input: string): void {
  if (mistakes.length === 0) return;
  failures++;
  if (failures > MOST_PRINTED_FAILURES) return;
  const choice = number < 0 ? `--requests ${REQUESTS}` : `--only ${number}`;
  console.log(`\n${description}: npm run fuzz -- --seed ${SEED} ${choice}`);
  for (const mistake of mistakes) console.log(`  ${mistake}`);
  console.log(`  sent: ${input.slice(0, 600)}`);
}

const bytesAsText = ({ parts }: { readonly parts: readonly Buffer[] }) =>
  inspect(Buffer.concat(parts).toString("latin1"), { breakLength: Infinity });

const headers = { Authorization: `Bearer ${ADMIN_TOKEN}`, "Content-Type": "application/json" };

async function get(service: ServiceProcess, path: string): Promise<unknown> {
  const response = await service.fetch(path, { headers });
  if (response.status !== 200) throw new Error(`${path} answered with status ${response.status}`);
  return response.json();
}

interface CheckBody {
  readonly limits: readonly { readonly used: number }[];
}

/** The cost that each user has in use. Asks over a session that stays open all the time. */
async function usedBy(session: SessionCaller, users: readonly string[]): Promise<number[]> {
  const used: number[] = [];
  for (let first = 0; first < users.length; first += MOST_IN_BATCH) {
    const requests = users
      .slice(first, first + MOST_IN_BATCH)
      .map((user) => ({ op: "check", policy: POLICY, subject: { user, ip: "198.51.100.1" } }));
    const results = (await session.ask(requests)) ?? [];
    used.push(...results.map(({ body }) => (body as CheckBody).limits?.[0]?.used ?? Number.NaN));
  }
  return used;
}

/** Every counter of every witness with its events, as text to compare. */
async function witnessCounters(service: ServiceProcess): Promise<string> {
  const states = [];
  for (let i = 0; i < WITNESSES; i++) {
    const { user, ip } = witnessOf(i);
    for (const key of [`user:${user}`, `ip:${ip}`])
      states.push(await get(service, `/v1/keys/${encodeURIComponent(key)}`));
  }
  // The time to the reset goes on by itself, so it is left out.
  return JSON.stringify(states, (name, value) => (name === "reset_seconds" ? undefined : value));
}

interface SentCase {
  readonly sent: { readonly user: string; readonly description: string; readonly parts: readonly Buffer[] };
  readonly number: number;
  /** The cost that the case's user must have in use afterwards, undefined if unknown. */
  readonly expectedUse: number | undefined;
}

function countStatuses(statuses: readonly (number | string)[]): void {
  for (const status of statuses.map(String)) byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
}

async function send(service: ServiceProcess, number: number): Promise<SentCase> {
  const sent = caseOf(SEED, number);
  if (sent.kind === "session") return sendOverSession(service, number, sent);
  const ended = await exchange(new URL(service.url), sent, LONGEST_EXCHANGE_MS);
  fail(mistakesIn(sent, ended), number, sent.description, bytesAsText(sent));
  countStatuses(ended.answers.length > 0 ? ended.answers.map(({ status }) => status) : ["closed"]);
  return { sent, number, expectedUse: usedAsReported(sent, POLICY, ended) };
}

async function sendOverSession(service: ServiceProcess, number: number, sent: SessionCase): Promise<SentCase> {
  const ended = await exchangeOverSession(new URL(service.url), sent, LONGEST_EXCHANGE_MS);
  fail(mistakesInSession(sent, ended), number, `session: ${sent.description}`, bytesAsText(sent));
  countStatuses([statusOf(ended.head) ?? "closed"]);
  messagesAnswered += ended.texts.length;
  return { sent, number, expectedUse: chargedAsReported(sent, POLICY, ended) };
}

/** Cases that stop in the middle and stay connected. They are waited for at the end, once all others are done. */
const stalled: Promise<unknown>[] = [];

/** Sends these cases over several connections, and compares the stored counts with the reported ones. */
async function sendRound(service: ServiceProcess, session: SessionCaller, numbers: readonly number[]): Promise<void> {
  const toCompare: SentCase[] = [];
  let next = 0;
  const client = async () => {
    while (next < numbers.length) {
      const number = numbers[next++] as number;
      const sending = send(service, number);
      const sent = caseOf(SEED, number);
      if ("ending" in sent && sent.ending === "stall") {
        stalled.push(sending);
        continue;
      }
      const sentCase = await sending;
      if (sentCase.expectedUse !== undefined) toCompare.push(sentCase);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  const used = await usedBy(
    session,
    toCompare.map(({ sent }) => sent.user),
  );
  toCompare.forEach(({ sent, number, expectedUse }, i) => {
    if (used[i] !== expectedUse)
      fail([`${used[i]} in use, but ${expectedUse} was reported`], number, sent.description, bytesAsText(sent));
  });
}

async function fuzzService(numbers: readonly number[]): Promise<string> {
  const service = await ServiceProcess.start({
    LIMITER_TOKENS: CALLER_TOKEN,
    LIMITER_ADMIN_TOKENS: ADMIN_TOKEN,
    LIMITER_DATA_DIR: folder,
    RATE_LIMIT_INLINE: "1",
    // A busy machine must not cause failures.
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
  const session = new SessionCaller(() => service.url, CALLER_TOKEN);
  const before = await witnessCounters(service);
  const rounds = Math.ceil(numbers.length / ROUND);
  let warmBytes = 0;
  let residentBytes = 0;
  for (let i = 0; i < rounds; i++) {
    await sendRound(service, session, numbers.slice(i * ROUND, (i + 1) * ROUND));
    ({ residentBytes } = resourcesOf(service));
    // The first half warms up: caches fill, code is compiled, and V8 takes room, as sockets wait for it to collect them.
    if (i <= rounds / 2) warmBytes = Math.max(warmBytes, residentBytes);
    process.stderr.write(`\r${Math.min((i + 1) * ROUND, numbers.length)} sent, ${failures} failures `);
  }
  await Promise.all(stalled);
  const growth = residentBytes - warmBytes;
  if (growth > MOST_GROWTH_BYTES) fail([`memory grew by ${growth} bytes`], -1, "all cases", "");
  if ((await witnessCounters(service)) !== before) fail(["a refused request changed a counter"], -1, "all cases", "");
  if (session.opened > 1) fail([`a session was ended ${session.opened - 1} times`], -1, "all cases", "");
  for (const fault of service.output.match(/A request failed[^}]*/g) ?? []) fail([fault], -1, "the service's log", "");
  await service.stop();
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
  return `memory ${mib(warmBytes)} MiB when warm, ${mib(residentBytes)} MiB at the end`;
}

/** Reads as many configurations as there are requests. fast-check shrinks a failure, and prints how to repeat it. */
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
answers: ${statuses.join(", ")}; over sessions ${messagesAnswered}
${memory}
failures: ${failures}`);
process.exitCode = failures > 0 ? 1 : 0;
