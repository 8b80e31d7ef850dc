import type { Call } from "../../src/object/protocol";
import type { Scheduler } from "../../tools/scheduler";
import type { Network } from "./network";

const CHECK = {
  method: "check",
  question: { policy: "small", cost: 1, counters: [{ layer: "caller", key: "user:nobody", limits: [] }] },
} as Call;

/**
 * Objects with rows that no sweep will ever delete: they have no alarm, and none after a call either. An object that died
 * before its alarm was set is woken by the call. Requires a network without faults.
 */
export async function objectsWithoutAlarm(network: Network, scheduler: Scheduler): Promise<string[]> {
  const isUnwatched = ({ store, alarmAtMs }: { store: { hasTables: boolean }; alarmAtMs: number | null }) =>
    store.hasTables && alarmAtMs === null;
  const objects = [...network.objects.values()];
  const woken = Promise.all(
    objects.filter(isUnwatched).map(({ name }) =>
      network
        .getByName(name)
        .decide([CHECK])
        .catch(() => undefined),
    ),
  );
  await scheduler.run();
  await woken;
  return objects.filter(isUnwatched).map(({ name }) => `${name} has rows and no alarm`);
}
