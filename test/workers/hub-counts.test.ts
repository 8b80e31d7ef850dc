import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import type { StatsObject } from "../../src/counting/stats-object";
import { STATS_NAMES } from "../../src/counting/stats-objects";
import type { HubObject } from "../../src/hub/hub";
import { newSubject } from "../behaviour/target";
import { openSession } from "./session";

const { LIMITER_HUBS: hubs, LIMITER_STATS: stats } = env as unknown as {
  readonly LIMITER_HUBS: DurableObjectNamespace<HubObject>;
  readonly LIMITER_STATS: DurableObjectNamespace<StatsObject>;
};

const hub = hubs.getByName("hub:local:0");
const alarmMs = () => runInDurableObject(hub, (_, { storage }) => storage.getAlarm());

/** How many consumes of the policy are counted in all objects. */
async function counted(policy: string): Promise<number> {
  const totals = await Promise.all(STATS_NAMES.map((name) => stats.getByName(name).totals()));
  return totals.reduce((sum, { tallies }) => sum + (tallies.get(policy)?.allowed ?? 0), 0);
}

test("a hub sends the counts of its first message at once, and of those that follow by its alarm, without a timer", async () => {
  const socket = await openSession();
  let answers = 0;
  socket.addEventListener("message", () => void answers++);
  const consume = async (id: number, requests: number) => {
    const request = { op: "consume", policy: "chat", subject: newSubject() };
    socket.send(JSON.stringify({ id, requests: Array(requests).fill(request) }));
    await vi.waitFor(() => expect(answers).toBe(id));
  };

  await consume(1, 2);
  await vi.waitFor(async () => expect(await counted("chat")).toBe(2));
  expect(await alarmMs()).toBeNull();

  const timers = vi.spyOn(globalThis, "setTimeout");
  const beforeMs = Date.now();
  await consume(2, 3);
  await vi.waitFor(async () => expect(await alarmMs()).not.toBeNull());
  const inMs = ((await alarmMs()) ?? 0) - beforeMs;
  // An object that is idle for ten seconds leaves memory.
  expect(inMs).toBeGreaterThan(7_000);
  expect(inMs).toBeLessThan(9_500);
  expect(timers.mock.calls.filter(([, ms]) => (ms ?? 0) > 2_000)).toEqual([]);
  expect(await counted("chat")).toBe(2);

  expect(await runDurableObjectAlarm(hub)).toBe(true);
  expect(await counted("chat")).toBe(5);
  // All is sent, so nothing is to wake the hub again.
  expect(await alarmMs()).toBeNull();
});
