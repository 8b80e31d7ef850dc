import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";

/**
 * `npm run torture -- --kills 50` kills the real service under load, again and again. Clients retry each request with its
 * idempotency key until they know the outcome. Then the answers are compared with the stored events: no acknowledged
 * admission may be lost, no key charged twice, no limit exceeded.
 */
const { values } = parseArgs({
  options: { kills: { type: "string", default: "50" }, placement: { type: "string", default: "shards:1" } },
});
const KILLS = Number(values.kills);
const CLIENTS = 24;
const USERS = 12;
/** Some ten minutes of retries, far longer than a restart takes. */
const MOST_TRIES = 40_000;
/** Limits that fill up, so that one admission too many shows. */
const USER_LIMIT = 40 + 30 * KILLS;
const ADDRESS_LIMIT = 2 * USER_LIMIT;
const TOKEN = "torture";

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

const users = Array.from({ length: USERS }, (_, i) => ({ user: `u${i}`, ip: `10.0.0.${i >> 2}` }));
const acknowledged = new Map<string, { user: string; ip: string }>();
/** How many answers say that the key was charged just then. */
const firstAnswers = new Map<string, number>();
let service: ServiceProcess | undefined;
let isOver = false;
let retries = 0;
let denied = 0;

/** Sends one request until its outcome is known. */
async function request(subject: { user: string; ip: string }): Promise<void> {
  const key = randomUUID();
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    try {
      if (!service) throw new Error("down");
      const response = await service.fetch("/v1/consume", {
        method: "POST",
        headers: { ...headers, "Idempotency-Key": `"${key}"` },
        body: JSON.stringify({ policy: "torture", subject }),
      });
      const body = (await response.json()) as { replayed: boolean };
      if (response.status === 429) denied++;
      if (response.status === 200) {
        acknowledged.set(key, subject);
        if (!body.replayed) firstAnswers.set(key, (firstAnswers.get(key) ?? 0) + 1);
      }
      if (response.status === 200 || response.status === 429) return;
    } catch {
      // The service is down, or the answer is lost. The key makes a retry safe.
    }
    retries++;
    await sleep(5 + Math.random() * 20);
  }
  throw new Error(`no answer after ${MOST_TRIES} tries`);
}

async function client(): Promise<void> {
  while (!isOver) await request(users[Math.floor(Math.random() * USERS)] as (typeof users)[number]);
}

interface Counter {
  readonly layer: string;
  readonly limits: readonly { readonly used: number; readonly limit: number }[];
  readonly events_total: number;
  readonly events: readonly { readonly id: string }[];
}

async function counterOf(key: string, layer: string): Promise<Counter | undefined> {
  const response = await (service as ServiceProcess).fetch(`/v1/keys/${encodeURIComponent(key)}?events=1000`, {
    headers,
  });
  return ((await response.json()) as { counters: Counter[] }).counters.find((counter) => counter.layer === layer);
}

service = await ServiceProcess.start(variables);
const clients = Array.from({ length: CLIENTS }, client);
for (let kill = 1; kill <= KILLS; kill++) {
  await sleep(100 + Math.random() * 400);
  const killed = service;
  service = undefined;
  await killed.killAll();
  service = await ServiceProcess.start(variables);
  process.stderr.write(
    `\r${kill} of ${KILLS} kills, ${acknowledged.size} admissions acknowledged, ${retries} retries `,
  );
}
await sleep(300);
isOver = true;
await Promise.all(clients);
// Sends every acknowledged key once more: each must be a replay.
let forgotten = 0;
for (const [key, subject] of acknowledged) {
  const body = JSON.stringify({ policy: "torture", subject });
  const answer = await service.fetch("/v1/consume", {
    method: "POST",
    headers: { ...headers, "Idempotency-Key": key },
    body,
  });
  const { allowed, replayed } = (await answer.json()) as { allowed: boolean; replayed: boolean };
  if (!allowed || !replayed) forgotten++;
}

let lost = forgotten;
let exceeded = 0;
let twice = [...firstAnswers.values()].filter((count) => count > 1).length;
let stored = 0;
for (const [layer, keys] of [
  ["caller", users.map(({ user }) => `user:${user}`)],
  ["ip", [...new Set(users.map(({ ip }) => `ip:${ip}`))]],
] as const)
  for (const key of keys) {
    const counter = await counterOf(key, layer);
    const ids = (counter?.events ?? []).map(({ id }) => id);
    const ofKey = [...acknowledged].filter(([, { user, ip }]) => key === `user:${user}` || key === `ip:${ip}`);
    twice += ids.length - new Set(ids).size;
    // Each event costs 1, so more use than events would be a charge without a key.
    if (counter?.limits[0] && counter.limits[0].used !== counter.events_total) twice++;
    if (ids.length < 1_000) lost += ofKey.filter(([id]) => !ids.includes(id)).length;
    if ((counter?.events_total ?? 0) < ofKey.length) lost += ofKey.length - (counter?.events_total ?? 0);
    if (ofKey.length > (layer === "caller" ? USER_LIMIT : ADDRESS_LIMIT)) exceeded++;
    if (counter?.limits.some(({ used, limit }) => used > limit)) exceeded++;
    if (layer === "caller") stored += counter?.events_total ?? 0;
  }
await service.stop();

console.log(`
${KILLS} kills, placement ${values.placement}: ${acknowledged.size} admissions acknowledged, ${stored} stored, ${denied} denied, ${retries} retries
acknowledged admissions lost: ${lost}
keys charged twice: ${twice}
over-admissions: ${exceeded}`);
process.exitCode = lost + twice + exceeded > 0 ? 1 : 0;
