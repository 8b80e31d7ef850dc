import type { Config } from "../../src/config/config";
import { readCheck } from "../../src/request/read";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { Admins, USUAL_DUTIES } from "./admins";
import { type Margins, mistakesInAdmissions } from "./admissions";
import { objectsWithoutAlarm } from "./alarms";
import { Callers, numberIn } from "./callers";
import { delayedCalls } from "./delays";
import { Hubs } from "./hubs";
import { Judge } from "./judge";
import { LONGEST_DELAY_MS, Network, NO_FAULTS } from "./network";
import { dividedKeys } from "./placements";
import {
  DEADLINE_MS,
  drawConfig,
  drawFaults,
  drawMachine,
  drawPlan,
  LONGEST_WINDOW_MS,
  type Plan,
  USUAL_HABITS,
} from "./plans";
import { newIsolate } from "./system";

const MOST_ISOLATES = 3;
const MOST_CALLERS = 4;
/** How many rounds the callers of jobs send. */
const JOB_ROUNDS = 24;

/**
 * Runs one history from its seed: a few callers, the real code of Worker and objects, and between them a network in which
 * anything may fail. Returns the mistakes that the judges found: none, if the service is right.
 */
export async function runHistory(seed: number): Promise<string[]> {
  const chance = new Chance(seed);
  const scheduler = new Scheduler(chance);
  const plan = drawPlan(chance);
  const isFaultless = plan.runsJobs || chance.is(0.25);
  const faults = isFaultless ? NO_FAULTS : { ...drawFaults(chance, plan), ...plan.faults };
  const network = new Network(scheduler, chance, faults, { ...drawMachine(chance, plan), ...plan.machine });
  try {
    return await runAndJudge(plan, network, scheduler, chance, isFaultless);
  } finally {
    for (const { disk } of network.objects.values()) disk.close();
  }
}

async function runAndJudge(
  plan: Plan,
  network: Network,
  scheduler: Scheduler,
  chance: Chance,
  isFaultless: boolean,
): Promise<string[]> {
  const config = drawConfig(plan, chance);
  const habits = { ...USUAL_HABITS, ...plan.habits };
  const duties = { ...USUAL_DUTIES, ...plan.duties };
  const isolates = Array.from({ length: 1 + chance.below(MOST_ISOLATES) }, (_, number) =>
    newIsolate(number, config, network, scheduler, chance.below(100_000)),
  );
  const hubs = new Hubs(MOST_ISOLATES, config, network, scheduler, chance, network.faults.hubDeath);
  const callers = new Callers(config, isolates, hubs, network, scheduler, chance, habits);
  const admins = new Admins(config, isolates, network, scheduler, chance, duties);
  const requests = numberIn(habits.requests, chance);
  const everybody = Promise.all(
    plan.runsJobs
      ? [callers.runJobs(JOB_ROUNDS)]
      : [
          ...Array.from({ length: 1 + chance.below(plan.mostCallers ?? MOST_CALLERS) }, (_, name) =>
            callers.run(name, requests),
          ),
          ...Array.from({ length: duties.admins }, () => admins.run(numberIn(duties.tasks, chance))),
        ],
  );
  await scheduler.run();
  await everybody;
  const mistakes = [
    ...network.failures,
    ...network.differences,
    ...dividedKeys(network),
    ...mistakesInAdmissions(callers.calls, admins.calls, marginsOf(network)),
    ...delayedCalls(callers.answered, network, config),
  ];
  // A history of jobs has too many executions for the model, so the callers' side alone is judged.
  if (plan.runsJobs) return mistakes;
  const isUndisturbed = isFaultless && [...network.objects.values()].every(({ incarnation }) => incarnation === 0);
  const judge = new Judge(
    network,
    callers.answered,
    callers.unheard,
    admins.overrides,
    admins.forgets,
    config.denyCacheMs,
  );
  return [
    ...mistakes,
    ...judge.judge(isUndisturbed),
    ...(await leftAfterLongestWindow(network, config, scheduler)),
    ...(await objectsWithoutAlarm(network, scheduler)),
  ];
}

function marginsOf({ objects, machine, faults }: Network): Margins {
  const offsets = [...objects.values()].map(({ offsetsMs }) => offsetsMs);
  return {
    clockMs: machine.tickMs + Math.max(0, ...offsets.map(([least, most]) => most - least)),
    offsetsMs: [Math.min(0, ...offsets.map(([least]) => least)), Math.max(0, ...offsets.map(([, most]) => most))],
    lateMs: 50 + (faults.slow > 0 ? LONGEST_DELAY_MS : 0),
    attemptMs: DEADLINE_MS,
  };
}

/** Without faults, and once the longest window has passed, every check is answered and finds nothing in use. */
async function leftAfterLongestWindow(network: Network, config: Config, scheduler: Scheduler): Promise<string[]> {
  network.faults = NO_FAULTS;
  const { limiter } = newIsolate(0, config, network, scheduler);
  const furthestMs = Math.max(0, ...[...network.objects.values()].map((object) => object.furthestOffsetMs));
  scheduler.nowMs += LONGEST_WINDOW_MS + 2 * furthestMs + 1_000;
  const mistakes: string[] = [];
  const checks = [
    { user: "u0", ip: "10.0.0.0" },
    { user: "u1", ip: "10.0.0.1" },
    { ip: "10.0.0.0" },
    { ip: "10.0.0.1" },
  ].map(async (subject) => {
    const request = readCheck({ policy: "small", subject }, config);
    const { limits } = await limiter.check(request).catch((error: unknown) => {
      mistakes.push(`a check of ${JSON.stringify(subject)} without faults failed: ${error}`);
      return { limits: [] };
    });
    for (const { layer, key, standing } of limits)
      if (standing.used > 0) mistakes.push(`${layer} ${key} still has ${standing.used} in use after its window`);
  });
  const all = Promise.all(checks);
  await scheduler.run();
  await all;
  return mistakes;
}
