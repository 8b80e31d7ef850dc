import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Chance } from "../tools/chance";
import { drawChart } from "../tools/chart";
import { table, writeSection } from "../tools/document";
import { groupBy } from "../tools/group-by";
import { describeHost } from "../tools/machine";
import { type Resources, resourcesOf } from "../tools/resources";
import type { ServiceProcess } from "../tools/service-process";
import { Callers, HEADERS, LIMITS, MOST_TRIES, TOKEN } from "./soak/callers";
import { soakClock } from "./soak/clock";
import { Disk } from "./soak/disk";
import { Faults } from "./soak/faults";
import { type Counter, judge, newVerdict, type TrackedRequest } from "./soak/judge";

/**
 * `npm run soak -- --minutes 30` runs the real service under mixed traffic and faults, and a second service on a clock that
 * moves in steps. It compares what is stored with what callers were answered. `--seed N` repeats the same choices,
 * `--write` writes the result to docs/soak.md.
 */
const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    write: { type: "boolean", default: false },
  },
});
const MINUTES = Number(values.minutes);
const SEED = Number(values.seed);
const CALLERS = 24;
/** Users of a period are judged at the end of the next one. By then every outcome is known. */
const PERIOD_MS = Math.min(60_000, MINUTES * 15_000);
const SAMPLE_MS = Math.min(10_000, MINUTES * 2_000);
const MOST_REST_MS = 12_000;
/** Room for an isolate and its objects, the runtime itself, and garbage. */
const MOST_BYTES = 2 ** 30;
const MOST_FILES = 200;

interface Sample extends Resources {
  readonly atMs: number;
}

const chance = new Chance(SEED);
const disk = new Disk();
const callers = new Callers(new Chance(SEED + 1));
const variables = {
  LIMITER_ADMIN_TOKENS: TOKEN,
  LIMITER_DATA_DIR: disk.folder,
  // A busy machine must not cause failures.
  RATE_LIMIT_DEADLINE_MS: "8000",
  RATE_LIMIT_POLICIES: JSON.stringify({
    soak: {
      layers: [
        { name: "caller", by: ["user"], limits: LIMITS.caller },
        { name: "ip", by: ["ip"], limits: LIMITS.ip },
      ],
    },
  }),
};
const faults = new Faults(variables, callers, disk, chance);
const verdict = newVerdict();
const samples: Sample[] = [];
const startedMs = Date.now();
const endMs = startedMs + MINUTES * 60_000;
let judged = 0;

async function counterOf(key: string, layer: string): Promise<Counter | undefined> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const path = `/v1/keys/${encodeURIComponent(key)}?events=1000`;
    const response = await callers.service?.fetch(path, { headers: HEADERS }).catch(() => undefined);
    if (response?.status === 200)
      return ((await response.json()) as { counters: Counter[] }).counters.find((counter) => counter.layer === layer);
    await sleep(200);
  }
  throw new Error(`no answer about ${key} after ${MOST_TRIES} tries`);
}

async function judgeAll(requests: readonly TrackedRequest[]): Promise<void> {
  for (const [key, ofKey] of groupBy(requests, ({ user }) => `user:${user}`))
    judge(await counterOf(key, "caller"), key, ofKey, !key.startsWith("user:s"), verdict);
  for (const [key, ofKey] of groupBy(requests, ({ ip }) => `ip:${ip}`))
    judge(await counterOf(key, "ip"), key, ofKey, !key.startsWith("ip:10.1."), verdict);
  judged += requests.length;
}

async function judgePeriods(): Promise<void> {
  let last: TrackedRequest[] = [];
  for (let nextMs = startedMs + PERIOD_MS; nextMs < endMs; nextMs += PERIOD_MS) {
    await sleep(nextMs - Date.now());
    const ended = callers.nextPeriod();
    await judgeAll(last);
    last = ended;
  }
  while (!callers.isOver) await sleep(200);
  callers.requests.push(...last);
}

async function watch(): Promise<void> {
  for (; !callers.isOver; await sleep(SAMPLE_MS)) {
    try {
      if (callers.service) samples.push({ atMs: Date.now() - startedMs, ...resourcesOf(callers.service) });
    } catch {
      // The service is just being killed.
    }
    const { answered, admitted, denied, retries } = callers.counts;
    const minutes = ((Date.now() - startedMs) / 60_000).toFixed(1);
    process.stderr.write(
      `\r${minutes} min, ${answered} answers, ${admitted} admitted, ${denied} denied, ${retries} retries `,
    );
  }
}

async function injectFaults(): Promise<void> {
  while (Date.now() < endMs - 15_000) {
    await sleep(2_000 + chance.below(MOST_REST_MS));
    await faults.injectOne();
  }
  await sleep(endMs - Date.now());
}

/** Sends the sampled requests of the many keys again: each id must still be known. */
async function checkSampled(service: ServiceProcess): Promise<void> {
  for (const { id, user, ip } of callers.sampled) {
    const body = JSON.stringify({ policy: "soak", subject: { user, ip }, cost: 1 });
    const init = { method: "POST", headers: { ...HEADERS, "Idempotency-Key": id }, body };
    const { replayed } = (await (await service.fetch("/v1/consume", init)).json()) as { replayed: boolean };
    if (!replayed) verdict.lost++;
  }
}

await faults.start();
const isOver = () => callers.isOver;
const clock = soakClock(new Chance(SEED + 2), isOver);
const periods = judgePeriods();
const watching = watch();
const traffic = Promise.all(Array.from({ length: CALLERS }, () => callers.run()));
await injectFaults();
callers.isOver = true;
await traffic;
const { decisions, mistakes: clockMistakes } = await clock;
await Promise.all([periods, watching]);
await judgeAll(callers.requests);
if (!callers.service) throw new Error("the service does not run at the end");
await checkSampled(callers.service);
await callers.service.stop();

const mistakes = [...verdict.details, ...callers.wrong, ...faults.mistakes, ...clockMistakes];
const mostBytes = Math.max(...samples.map(({ residentBytes }) => residentBytes));
const mostFiles = Math.max(...samples.map(({ openFiles }) => openFiles));
if (mostBytes > MOST_BYTES) mistakes.push(`${mostBytes} bytes resident`);
if (mostFiles > MOST_FILES) mistakes.push(`${mostFiles} open files`);
const { answered, overSessions, admitted, denied, retries, wrong } = callers.counts;
const count = (value: number) => value.toLocaleString("en");
const rows: [string, number][] = [
  ["over-admissions", verdict.overAdmissions],
  ["acknowledged and lost", verdict.lost],
  ["charged twice", verdict.chargedTwice],
  ["denied, and still stored", verdict.deniedButStored],
  ["wrong answers", wrong],
  ["faults without recovery", faults.mistakes.length],
  [`wrong decisions on the clock in steps, of ${count(decisions)}`, clockMistakes.length],
  ["most resident memory of the runtime, MiB", Math.round(mostBytes / 2 ** 20)],
  ["most open files of the runtime", mostFiles],
];
const injected = Object.entries(faults.counts).map(([name, times]) => `${times} × ${name}`);
const summary = `${MINUTES} minutes, seed ${SEED}: ${count(answered)} answers, ${count(overSessions)} of them over ${count(callers.sessionsOpened)} sessions, four at a time;
${count(admitted)} admitted, ${count(denied)} denied, ${count(retries)} sent again; ${count(judged)} requests of watched users and ${count(callers.sampled.length)} of many keys compared with what is stored.

Faults: ${injected.join(", ")}${disk.isMounted ? "" : "; no faults of the disk, which take root"}.`;
console.log(`\n\n${summary}\n\n${rows.map(([what, value]) => `${what}: ${value}`).join("\n")}\n${mistakes.join("\n")}`);

if (values.write) {
  drawChart("soak", {
    title: "the runtime under faults",
    kind: "line",
    categories: samples.map(({ atMs }) => (atMs / 60_000).toFixed(1)),
    categoryLabel: "minutes",
    series: [
      { name: "resident memory, MiB", values: samples.map(({ residentBytes }) => Math.round(residentBytes / 2 ** 20)) },
      { name: "open files", values: samples.map(({ openFiles }) => openFiles) },
    ],
  });
  const date = new Date(startedMs).toISOString().slice(0, 10);
  const command = `npm run soak -- --minutes ${MINUTES} --seed ${SEED} --write`;
  const figures = table(
    ["", "measured"],
    rows.map(([what, value]) => [what, count(value)]),
  );
  writeSection("soak", `${date}, ${describeHost()}. \`${command}\`\n\n${summary}\n\n${figures}`, {
    name: "soak.md",
    command: "npm run soak",
  });
}
process.exitCode = mistakes.length + verdict.lost > 0 ? 1 : 0;
