import { afterEach, expect, test, vi } from "vitest";
import type { Call } from "../../src/object/protocol";
import { SweepAlarm } from "../../src/object/sweep-alarm";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { objectsWithoutAlarm } from "./alarms";
import { Network, NO_FAULTS } from "./network";

afterEach(() => void vi.restoreAllMocks());

const CONSUME = {
  method: "consume",
  question: {
    policy: "small",
    cost: 1,
    counters: [{ layer: "caller", key: "user:u", limits: [{ max: 5, windowMs: 60_000 }] }],
    id: "a",
    identity: "caller=u",
    attempt: "a",
    isOnlyPart: true,
    windowMs: 60_000,
    attemptMs: 2_000,
  },
} as Call;

/** An object that died after its first commit, before its alarm was set. Then it was called again. */
async function objectThatDied() {
  const chance = new Chance(1);
  const scheduler = new Scheduler(chance);
  const machine = { tickMs: 1, skewMs: 0, memoryBytes: 1_000_000, pageChars: 2_000, sweepShare: 0, reopenShare: 0 };
  const network = new Network(scheduler, chance, NO_FAULTS, machine);
  const stub = network.getByName("object");
  const [object] = network.objects.values();
  if (!object) throw new Error("the network has no object");
  const committing = vi.spyOn(object, "commit").mockImplementationOnce(() => {
    object.disk.commit();
    object.crash();
  });
  const answered = stub.decide([CONSUME]).catch(() => undefined);
  await scheduler.run();
  await answered;
  expect(committing).toHaveBeenCalled();
  const { alarmAtMs } = object;
  const mistakes = await objectsWithoutAlarm(network, scheduler);
  for (const { disk } of network.objects.values()) disk.close();
  return { alarmAtMs, mistakes };
}

test("an object that died before its alarm was set has one once it is called again", async () => {
  expect(await objectThatDied()).toEqual({ alarmAtMs: null, mistakes: [] });
});

test("the judges find an object that died before its alarm was set, and that nobody heals", async () => {
  vi.spyOn(SweepAlarm.prototype, "heal").mockImplementation(() => {});
  expect((await objectThatDied()).mistakes).toEqual(["object has rows and no alarm"]);
});
