import { expect, test } from "vitest";
import type { Call, CallResult } from "../../src/object/protocol";
import { CallQueues } from "../../src/objects/call-queue";
import { DeadlineError } from "../../src/objects/deadline";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../simulation/scheduler";

const NEVER = new Promise<never>(() => {});
const lost = (properties: object) => Object.assign(new Error("connection lost"), { retryable: true, ...properties });

/** Queues over objects that do with a message what they are told to, and answer each call by its name. */
function queuesOver(answer: (object: string, nth: number) => Promise<unknown> | undefined = () => undefined) {
  const scheduler = new Scheduler(new Chance(1));
  const startMs = scheduler.nowMs;
  const sent: { object: string; names: string[]; atMs: number }[] = [];
  const stubs: object[] = [];
  const objects = {
    getByName: (object: string) => {
      const stub = {
        decide: async (calls: readonly Call[]) => {
          const names = calls.map(nameOf);
          sent.push({ object, names, atMs: scheduler.nowMs - startMs });
          await scheduler.sleep(10);
          await answer(object, sent.length);
          return names.map((name) =>
            name === "fails" ? { error: "no room" } : { verdict: name },
          ) as never as CallResult[];
        },
      };
      stubs.push(stub);
      return stub;
    },
  };
  const queues = new CallQueues(objects, { locationHint: undefined }, scheduler);
  const callsAt = queues.forBatch();
  const told: [name: string, answer: unknown, atMs: number][] = [];
  /** Asks an object, and notes what it was told, and when. */
  const ask = (
    position: number,
    name: string,
    deadlineMs = 1_000,
    object = "a",
    method: "check" | "rollBack" = "check",
  ) => {
    const asked = callsAt(position).ask(object, method, { policy: name } as never, scheduler.nowMs + deadlineMs);
    const note = (answer: unknown) => void told.push([name, answer, scheduler.nowMs - startMs]);
    return asked.then(note, (error) => note(error instanceof DeadlineError ? "given up" : error.message));
  };
  const after = (ms: number, work: () => void) => void scheduler.after(ms, work);
  return { run: () => scheduler.run(), ask, after, sent, told, stubs };
}

function nameOf({ question }: Call): string {
  return (question as { readonly policy: string }).policy;
}

test("what is asked at once is one message, by position; what comes meanwhile is the next, what is rolled back first", async () => {
  const { ask, after, run, sent, told } = queuesOver();
  for (const [position, name] of [
    [2, "c"],
    [0, "a"],
    [1, "b"],
  ] as const)
    ask(position, name);
  after(2, () => ask(5, "f"));
  after(3, () => ask(4, "e"));
  after(4, () => ask(9, "back", 1_000, "a", "rollBack"));
  await run();
  expect(sent).toEqual([
    { object: "a", names: ["a", "b", "c"], atMs: 0 },
    { object: "a", names: ["back", "e", "f"], atMs: 10 },
  ]);
  expect(told.map(([name, answer]) => name === answer)).toEqual(Array.from({ length: 6 }, () => true));
});

test("a message that is lost is sent again as it was, to a new stub each time, before all that came meanwhile", async () => {
  const { ask, after, run, sent, stubs } = queuesOver((_, nth) => (nth <= 2 ? Promise.reject(lost({})) : undefined));
  ask(1, "b");
  ask(2, "c");
  after(5, () => ask(0, "a"));
  await run();
  expect(sent.map(({ names }) => names)).toEqual([["b", "c"], ["b", "c"], ["b", "c"], ["a"]]);
  expect(new Set(stubs).size).toBe(4);
});

test("an object that is overloaded is not asked again, and what waits for it is asked next", async () => {
  const { ask, after, run, sent, told } = queuesOver((_, nth) =>
    nth === 1 ? Promise.reject(lost({ overloaded: true })) : undefined,
  );
  ask(0, "a");
  after(5, () => ask(1, "b"));
  await run();
  expect(sent.map(({ names }) => names)).toEqual([["a"], ["b"]]);
  expect(told).toEqual([
    ["a", "connection lost", 10],
    ["b", "b", 20],
  ]);
});

test("a call that fails in its object fails alone", async () => {
  const { ask, run, told } = queuesOver();
  ask(0, "a");
  ask(1, "fails");
  ask(2, "c");
  await run();
  expect(told.map(([name, answer]) => [name, answer])).toEqual([
    ["a", "a"],
    ["fails", "no room"],
    ["c", "c"],
  ]);
});

test("each call is given up at its own deadline, in flight or waiting; the next message goes when all of one are", async () => {
  const { ask, after, run, sent, told } = queuesOver((_, nth) => (nth === 1 ? NEVER : undefined));
  ask(0, "soon", 100);
  ask(1, "late", 300);
  after(50, () => ask(2, "waits in vain", 200));
  after(60, () => ask(3, "waits", 500));
  await run();
  expect(told).toEqual([
    ["soon", "given up", 100],
    ["waits in vain", "given up", 250],
    ["late", "given up", 300],
    ["waits", "waits", 310],
  ]);
  expect(sent.map(({ names, atMs }) => [...names, atMs])).toEqual([
    ["soon", "late", 0],
    ["waits", 300],
  ]);
});

test("nobody waits for an object that is silent but those who ask it", async () => {
  const { ask, after, run, told } = queuesOver((object) => (object === "silent" ? NEVER : undefined));
  ask(0, "a", 1_000, "silent");
  ask(1, "b");
  after(20, () => ask(2, "c"));
  await run();
  expect(told).toEqual([
    ["b", "b", 10],
    ["c", "c", 30],
    ["a", "given up", 1_000],
  ]);
});

test("a call that has no time left is not sent", async () => {
  const { ask, run, sent, told } = queuesOver();
  ask(0, "a", 0);
  await run();
  expect([sent, told]).toEqual([[], [["a", "given up", 0]]]);
});
