import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Chance } from "../tools/chance";
import { drawChart } from "../tools/chart";
import { table, writeSection } from "../tools/document";
import { describeHost } from "../tools/machine";
import { type Resources, resourcesOf } from "../tools/resources";
import type { ServiceProcess } from "../tools/service-process";
import { Callers, HEADERS, LIMITS, TOKEN } from "./soak/callers";
import { soakClock } from "./soak/clock";
import { Disk } from "./soak/disk";
import { Faults } from "./soak/faults";
import { type Counter, judge, newVerdict, type Wish } from "./soak/observations";

/**
 * `npm run soak -- --minutes 30`: the real service under mixed traffic while faults befall it, and a second one whose
 * clock takes steps. What is stored in the end is held against what callers were told. `--seed N` repeats the same
 * choices, `--write` puts the outcome into docs/soak.md.
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
/** Users of a period are judged when the next one is over: by then everybody knows how everything ended. */
const PERIOD_MS = Math.min(60_000, MINUTES * 15_000);
const SAMPLE_MS = Math.min(10_000, MINUTES * 2_000);
const MOST_REST_MS = 12_000;
/** An isolate and its objects, the runtime's own, and what garbage there may be. */
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
  // A machine that is busy is no fault of the service.
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
  for (;;) {
    const path = `/v1/keys/${encodeURIComponent(key)}?events=1000`;
    const response = await callers.service?.fetch(path, { headers: HEADERS }).catch(() => undefined);
    if (response?.status === 200)
      return ((await response.json()) as { counters: Counter[] }).counters.find((counter) => counter.layer === layer);
    await sleep(200);
  }
}

function grouped(wishes: readonly Wish[], keyOf: (wish: Wish) => string): Map<string, Wish[]> {
  const groups = new Map<string, Wish[]>();
  for (const wish of wishes) {
    const group = groups.get(keyOf(wish));
    if (group) group.push(wish);
    else groups.set(keyOf(wish), [wish]);
  }
  return groups;
}

async function judgeAll(wishes: readonly Wish[]): Promise<void> {
  for (const [key, asked] of grouped(wishes, ({ user }) => `user:${user}`))
    judge(await counterOf(key, "caller"), key, asked, !key.startsWith("user:s"), verdict);
  for (const [key, asked] of grouped(wishes, ({ ip }) => `ip:${ip}`))
    judge(await counterOf(key, "ip"), key, asked, !key.startsWith("ip:10.1."), verdict);
  judged += wishes.length;
}

async function judgePeriods(): Promise<void> {
  let last: Wish[] = [];
  for (let nextMs = startedMs + PERIOD_MS; nextMs < endMs; nextMs += PERIOD_MS) {
    await sleep(nextMs - Date.now());
    const over = callers.nextPeriod();
    await judgeAll(last);
    last = over;
  }
  while (!callers.isOver) await sleep(200);
  callers.wishes.push(...last);
}

async function watch(): Promise<void> {
  for (; !callers.isOver; await sleep(SAMPLE_MS)) {
    try {
      if (callers.service) samples.push({ atMs: Date.now() - startedMs, ...resourcesOf(callers.service) });
    } catch {
      // It is just being killed.
    }
    const { answered, admitted, denied, retries } = callers.counts;
    const minutes = ((Date.now() - startedMs) / 60_000).toFixed(1);
    process.stderr.write(
      `\r${minutes} min, ${answered} answers, ${admitted} admitted, ${denied} denied, ${retries} retries `,
    );
  }
}

async function befall(): Promise<void> {
  while (Date.now() < endMs - 15_000) {
    await sleep(2_000 + chance.below(MOST_REST_MS));
    await faults.one();
  }
  await sleep(endMs - Date.now());
}

/** Of the many keys those that were remembered: sent again, each must still be known. */
async function lookForSampled(service: ServiceProcess): Promise<void> {
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
await befall();
callers.isOver = true;
await traffic;
const { decisions, mistakes: ofClock } = await clock;
await Promise.all([periods, watching]);
await judgeAll(callers.wishes);
if (!callers.service) throw new Error("the service is not there in the end");
await lookForSampled(callers.service);
await callers.service.stop();

const mistakes = [...verdict.details, ...callers.wrong, ...faults.mistakes, ...ofClock];
const mostBytes = Math.max(...samples.map(({ residentBytes }) => residentBytes));
const mostFiles = Math.max(...samples.map(({ openFiles }) => openFiles));
if (mostBytes > MOST_BYTES) mistakes.push(`${mostBytes} bytes resident`);
if (mostFiles > MOST_FILES) mistakes.push(`${mostFiles} open files`);
const { answered, admitted, denied, retries, wrong } = callers.counts;
const count = (value: number) => value.toLocaleString("en");
const rows: [string, number][] = [
  ["over-admissions", verdict.overAdmissions],
  ["acknowledged and lost", verdict.lost],
  ["charged twice", verdict.chargedTwice],
  ["denied in the end, and yet in a window", verdict.deniedYetStored],
  ["answers that nobody should be given", wrong],
  ["faults that did not end well", faults.mistakes.length],
  [`of ${count(decisions)} decisions on a clock in steps, those that an oracle would not have made`, ofClock.length],
  ["most resident memory of the runtime, MiB", Math.round(mostBytes / 2 ** 20)],
  ["most open files of the runtime", mostFiles],
];
const befallen = Object.entries(faults.counts).map(([name, times]) => `${times} × ${name}`);
const summary = `${MINUTES} minutes, seed ${SEED}: ${count(answered)} answers, ${count(admitted)} admitted, ${count(denied)} denied,
${count(retries)} sent again; ${count(judged)} requests of watched users and ${count(callers.sampled.length)} of many keys held against what is stored.

Befallen: ${befallen.join(", ")}${disk.isMounted ? "" : "; no disk of its own to fill, which takes root"}.`;
console.log(`\n\n${summary}\n\n${rows.map(([what, value]) => `${what}: ${value}`).join("\n")}\n${mistakes.join("\n")}`);

if (values.write) {
  drawChart("soak", {
    title: "the runtime under faults",
    kind: "line",
    categories: samples.map(({ atMs }) => (atMs / 60_000).toFixed(1)),
    categoriesAre: "minutes",
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
