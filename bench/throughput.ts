import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Miniflare } from "miniflare";
import { ServiceProcess } from "../scripts/local/process";
import { type LoadResult, load, median, TOKEN } from "./load";

/**
 * `npm run bench:throughput`: decisions a second of `npm start` under 32 connections, beside an empty Worker's answer
 * on the same runtime, in turn, medians of several rounds. Ratios are what to look at: the load is made on the same
 * machine.
 */
const ROUNDS = 5;
const SECONDS = 3;
const CONNECTIONS = 32;

const EMPTY_WORKER = `export default { async fetch(request) {
  await request.text();
  return Response.json({ allowed: true });
} }`;

const number = (below: number) => Math.floor(Math.random() * below);
const plenty = {
  RATE_LIMIT_CHAT_PER_MIN: "1000000",
  RATE_LIMIT_CHAT_PER_HOUR: "1000000",
  RATE_LIMIT_CHAT_IP_PER_MIN: "1000000",
};

const service = await ServiceProcess.start({
  ...plenty,
  RATE_LIMIT_POLICIES: '{"strict":{"layers":[{"name":"caller","by":["user"],"limits":["1/day"]}]}}',
  LIMITER_TOKENS: TOKEN,
  LIMITER_DATA_DIR: mkdtempSync(join(tmpdir(), "limiter-")),
});
const empty = new Miniflare({
  modules: true,
  script: EMPTY_WORKER,
  compatibilityDate: "2026-04-24",
  cf: false,
  unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
});
const emptyUrl = String(await empty.unsafeGetDirectURL());

const signedIn = () => ({
  policy: "chat",
  subject: { user: `u_${number(1_000)}`, ip: `10.0.${number(4)}.${number(250)}` },
});
const anonymous = () => ({ policy: "chat", subject: { ip: `10.0.${number(4)}.${number(250)}` } });

const WORKLOADS: Record<string, { url: string; body: () => unknown }> = {
  "empty Worker": { url: emptyUrl, body: signedIn },
  "consume, signed in, admitted": { url: `${service.url}/v1/consume`, body: signedIn },
  "consume, anonymous, admitted": { url: `${service.url}/v1/consume`, body: anonymous },
  "consume, denied": { url: `${service.url}/v1/consume`, body: () => ({ policy: "strict", subject: { user: "u" } }) },
  "check, signed in": { url: `${service.url}/v1/check`, body: signedIn },
};

const results = new Map<string, LoadResult[]>();
for (let round = 0; round <= ROUNDS; round++) {
  for (const [name, { url, body }] of Object.entries(WORKLOADS)) {
    process.stderr.write(`\rround ${round} of ${ROUNDS}: ${name.padEnd(40)}`);
    const result = await load({ url, connections: CONNECTIONS, seconds: SECONDS, body });
    // The first round warms up.
    if (round > 0) results.set(name, [...(results.get(name) ?? []), result]);
  }
}
process.stderr.write("\r".padEnd(70));
await service.stop();
await empty.dispose();

const floor = median((results.get("empty Worker") ?? []).map(({ requestsPerSecond }) => requestsPerSecond));
console.log(`\r${CONNECTIONS} connections, medians of ${ROUNDS} rounds of ${SECONDS} s:`);
for (const [name, rounds] of results) {
  const perSecond = median(rounds.map(({ requestsPerSecond }) => requestsPerSecond));
  const p99 = median(rounds.map(({ p99Ms }) => p99Ms));
  console.log(
    `${name.padEnd(32)} ${perSecond.toFixed(0).padStart(6)}/s  ${(perSecond / floor).toFixed(2)} of the empty Worker  p99 ${p99} ms`,
  );
}
