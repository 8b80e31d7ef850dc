import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ServiceProcess } from "../tools/service-process";
import { SessionCaller } from "../tools/session";
import { temporaryFolder } from "../tools/temporary-folder";
import { type Kill, secondEvents } from "./torture/second-events";

/**
 * `npm run torture -- --kills 50` kills the real service under load, again and again. Clients ask over HTTP and over
 * sessions, about the same users, and retry each request with its idempotency key until they know the outcome. Then the
 * answers are compared with the stored events: no acknowledged admission may be lost, no key charged twice, no limit
 * exceeded.
 */
const { values } = parseArgs({
  options: { kills: { type: "string", default: "50" }, placement: { type: "string", default: "shards:1" } },
});
const KILLS = Number(values.kills);
const HTTP_CLIENTS = 16;
/** Clients share sessions, as the calls of a backend do. */
const SESSIONS = 4;
const CLIENTS_OF_SESSION = 2;
const MOST_IN_MESSAGE = 3;
const MOST_IN_BATCH = 100;
const USERS = 12;
/** Some ten minutes of retries, far longer than a restart takes. */
const MOST_TRIES = 40_000;
/** Limits that fill up, so that one admission too many shows. */
const USER_LIMIT = 40 + 30 * KILLS;
const ADDRESS_LIMIT = 2 * USER_LIMIT;
const TOKEN = "torture";
/** Whether a decision spans objects, so that a kill can come between them. */
const MAY_TEAR = values.placement !== "shards:1";

const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
const variables = {
  LIMITER_TOKENS: TOKEN,
  LIMITER_ADMIN_TOKENS: TOKEN,
  LIMITER_PLACEMENT: values.placement,
  LIMITER_DATA_DIR: temporaryFolder(),
  RATE_LIMIT_POLICIES: JSON.stringify({
    torture: {
      layers: [
        { name: "caller", by: ["user"], limits: [`${USER_LIMIT}/day`] },
        { name: "ip", by: ["ip"], limits: [`${ADDRESS_LIMIT}/day`] },
      ],
    },
  }),
};

type Way = "HTTP" | "sessions";

interface Subject {
  readonly user: string;
  readonly ip: string;
}

interface Result {
  readonly status: number;
  readonly body: unknown;
}

interface Decision {
  readonly allowed: boolean;
  readonly replayed: boolean;
}

const users = Array.from({ length: USERS }, (_, i): Subject => ({ user: `u${i}`, ip: `10.0.0.${i >> 2}` }));
const acknowledged = new Map<string, Subject & { readonly way: Way }>();
/** How many answers say that the key was charged just then. */
const firstAnswers = new Map<string, number>();
const answers = { HTTP: 0, sessions: 0 };
let service: ServiceProcess | undefined;
let isOver = false;
let retries = 0;
let denied = 0;
const kills: Kill[] = [];
const sessions = Array.from({ length: SESSIONS }, () => new SessionCaller(() => service?.url, TOKEN));

const anyUser = () => users[Math.floor(Math.random() * USERS)] as Subject;

async function askOverHttp(key: string, subject: Subject): Promise<Result | undefined> {
  const body = JSON.stringify({ policy: "torture", subject });
  const init = { method: "POST", headers: { ...headers, "Idempotency-Key": `"${key}"` }, body };
  try {
    const response = await service?.fetch("/v1/consume", init);
    return response && { status: response.status, body: await response.json() };
  } catch {
    // The service is down, or the answer is lost. The key makes a retry safe.
    return undefined;
  }
}

const askOverSession = (session: SessionCaller, asked: readonly (readonly [key: string, subject: Subject])[]) =>
  session.ask(
    asked.map(([key, { user, ip }]) => ({
      op: "consume",
      idempotency_key: key,
      policy: "torture",
      subject: { user, ip },
    })),
  );

/** Notes an answer, if there is one. Returns whether the outcome is known. */
function note(key: string, { user, ip }: Subject, result: Result | undefined, way: Way): boolean {
  const { status, body } = result ?? {};
  if (status !== 200 && status !== 429) return false;
  answers[way]++;
  if (status === 429) denied++;
  else {
    acknowledged.set(key, { user, ip, way });
    if (!(body as Decision).replayed) firstAnswers.set(key, (firstAnswers.get(key) ?? 0) + 1);
  }
  return true;
}

/** Sends requests, and again those without an answer, until all outcomes are known. */
async function untilKnown(send: (keys: Map<string, Subject>) => Promise<void>, requests: number): Promise<void> {
  const unknown = new Map(Array.from({ length: requests }, () => [randomUUID() as string, anyUser()]));
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    await send(unknown);
    if (unknown.size === 0) return;
    retries += unknown.size;
    await sleep(5 + Math.random() * 20);
  }
  throw new Error(`no answer after ${MOST_TRIES} tries`);
}

async function httpClient(): Promise<void> {
  const send = async (unknown: Map<string, Subject>) => {
    for (const [key, subject] of unknown)
      if (note(key, subject, await askOverHttp(key, subject), "HTTP")) unknown.delete(key);
  };
  while (!isOver) await untilKnown(send, 1);
}

async function sessionClient(session: SessionCaller): Promise<void> {
  const send = async (unknown: Map<string, Subject>) => {
    const asked = [...unknown];
    const results = await askOverSession(session, asked);
    for (const [i, [key, subject]] of asked.entries())
      if (note(key, subject, results?.[i], "sessions")) unknown.delete(key);
  };
  while (!isOver) await untilKnown(send, 1 + Math.floor(Math.random() * MOST_IN_MESSAGE));
}

interface Counter {
  readonly layer: string;
  readonly limits: readonly { readonly used: number; readonly limit: number }[];
  readonly events_total: number;
  /** Newest first. */
  readonly events: readonly { readonly id: string; readonly at: string }[];
}

async function counterOf(key: string, layer: string): Promise<Counter | undefined> {
  const response = await (service as ServiceProcess).fetch(`/v1/keys/${encodeURIComponent(key)}?events=1000`, {
    headers,
  });
  return ((await response.json()) as { counters: Counter[] }).counters.find((counter) => counter.layer === layer);
}

service = await ServiceProcess.start(variables);
const clients = [
  ...Array.from({ length: HTTP_CLIENTS }, httpClient),
  ...sessions.flatMap((session) => Array.from({ length: CLIENTS_OF_SESSION }, () => sessionClient(session))),
];
for (let kill = 1; kill <= KILLS; kill++) {
  await sleep(100 + Math.random() * 400);
  const killed = service;
  const fromMs = Date.now();
  service = undefined;
  await killed.killAll();
  service = await ServiceProcess.start(variables);
  kills.push({ fromMs, toMs: Date.now() });
  process.stderr.write(
    `\r${kill} of ${KILLS} kills, ${acknowledged.size} admissions acknowledged, ${retries} retries `,
  );
}
await sleep(300);
isOver = true;
await Promise.all(clients);
/** Sends every acknowledged key once more, by the other way than before: each must be a replay. */
async function forgottenKeys(): Promise<number> {
  const isReplay = (result: Result | undefined) =>
    result?.status === 200 && (result.body as Decision).allowed && (result.body as Decision).replayed;
  let forgotten = 0;
  const overSession: [string, Subject][] = [];
  for (const [key, { way, ...subject }] of acknowledged) {
    if (way === "HTTP") overSession.push([key, subject]);
    else if (!isReplay(await askOverHttp(key, subject))) forgotten++;
  }
  const session = sessions[0] as SessionCaller;
  for (let first = 0; first < overSession.length; first += MOST_IN_BATCH) {
    const asked = overSession.slice(first, first + MOST_IN_BATCH);
    const results = await askOverSession(session, asked);
    forgotten += asked.filter((_, i) => !isReplay(results?.[i])).length;
  }
  return forgotten;
}

const forgotten = await forgottenKeys();
let lost = forgotten;
let torn = 0;
let exceeded = 0;
let twice = [...firstAnswers.values()].filter((count) => count > 1).length;
let stored = 0;
for (const [layer, keys] of [
  ["caller", users.map(({ user }) => `user:${user}`)],
  ["ip", [...new Set(users.map(({ ip }) => `ip:${ip}`))]],
] as const)
  for (const key of keys) {
    const counter = await counterOf(key, layer);
    const ids = new Set(counter?.events.map(({ id }) => id));
    const ofKey = [...acknowledged].filter(([, { user, ip }]) => key === `user:${user}` || key === `ip:${ip}`);
    const second = secondEvents(counter?.events ?? [], MAY_TEAR ? kills : []);
    torn += second.torn;
    twice += second.twice;
    // Each event costs 1, so more use than events would be a charge without a key.
    if (counter?.limits[0] && counter.limits[0].used !== counter.events_total) twice++;
    if ((counter?.events.length ?? 0) < 1_000) lost += ofKey.filter(([id]) => !ids.has(id)).length;
    if ((counter?.events_total ?? 0) < ofKey.length) lost += ofKey.length - (counter?.events_total ?? 0);
    if (ofKey.length > (layer === "caller" ? USER_LIMIT : ADDRESS_LIMIT)) exceeded++;
    if (counter?.limits.some(({ used, limit }) => used > limit)) exceeded++;
    if (layer === "caller") stored += counter?.events_total ?? 0;
  }
await service.stop();
const opened = sessions.reduce((sum, session) => sum + session.opened, 0);

console.log(`
${KILLS} kills, placement ${values.placement}: ${acknowledged.size} admissions acknowledged, ${stored} stored, ${denied} denied, ${retries} retries
answers over HTTP: ${answers.HTTP}, over sessions: ${answers.sessions}; ${opened} sessions opened
acknowledged admissions lost: ${lost}
keys charged twice: ${twice}${MAY_TEAR ? `; torn by a kill, and charged once more: ${torn}` : ""}
over-admissions: ${exceeded}`);
process.exitCode = lost + twice + exceeded > 0 ? 1 : 0;
