import { expect, test, vi } from "vitest";
import type { Call, CallResult } from "../../src/object/protocol";
import { Asker, type ConsumeVerdict } from "../../src/objects/asker";
import { LeftAloneError } from "../../src/objects/breakers";
import { CallQueues } from "../../src/objects/call-queue";
import { heard } from "../../src/objects/calls";
import { DeadlineError, NotSentError } from "../../src/objects/deadline";
import { FanOut } from "../../src/objects/fan-out";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { Ledgers } from "../simulation/ledgers";

const REASONS = new Map<unknown, string>([
  [DeadlineError, "given up"],
  [NotSentError, "not sent"],
  [LeftAloneError, "left alone"],
]);
const NEVER = new Promise<never>(() => {});
const lost = (properties: object) => Object.assign(new Error("connection lost"), { retryable: true, ...properties });

type Fate = (object: string, nth: number) => Promise<unknown> | undefined;

/**
 * Queues over objects that answer each call by its name after 10 ms. `fateOf` may reject a message, or never resolve. As
 * those of the runtime, timers drop fractions of a millisecond.
 */
function queuesOver(fateOf: Fate = () => undefined, clock = { behindMs: 0 }) {
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
          await fateOf(object, sent.length);
          return names.map((name) =>
            name === "fails" ? { error: "no room" } : { verdict: name },
          ) as never as CallResult[];
        },
      };
      stubs.push(stub);
      return stub;
    },
  };
  const timing = {
    now: () => scheduler.nowMs - clock.behindMs,
    random: scheduler.random,
    after: (ms: number, work: () => void) => scheduler.after(Math.trunc(ms), work),
  };
  const queues = new CallQueues(objects, { locationHint: undefined }, timing);
  const calls = queues.forBatch();
  const results: [name: string, result: unknown, atMs: number][] = [];
  /** Asks an object, and notes the result and its time. */
  const ask = (
    position: number,
    name: string,
    deadlineMs = 1_000,
    object = "a",
    method: "check" | "rollBack" = "check",
  ) => {
    const giveUpAtMs = scheduler.nowMs + deadlineMs;
    const verdict = heard((hearer) =>
      calls.ask(object, method, { policy: name } as never, giveUpAtMs, position, hearer),
    );
    const note = (result: unknown) => void results.push([name, result, scheduler.nowMs - startMs]);
    return verdict.then(note, (error) => note(REASONS.get(error.constructor) ?? error.message));
  };
  const after = (ms: number, work: () => void) => void scheduler.after(ms, work);
  return { run: () => scheduler.run(), ask, after, sent, results, stubs };
}

function nameOf({ question }: Call): string {
  return (question as { readonly policy: string }).policy;
}

test("calls at once are one message by position; calls that come meanwhile are the next, rollbacks first", async () => {
  const { ask, after, run, sent, results } = queuesOver();
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
  expect(results.map(([name, result]) => name === result)).toEqual(Array.from({ length: 6 }, () => true));
});

test("a lost message is sent again unchanged, to a new stub each time, before calls that came meanwhile", async () => {
  const { ask, after, run, sent, stubs } = queuesOver((_, nth) => (nth <= 2 ? Promise.reject(lost({})) : undefined));
  ask(1, "b");
  ask(2, "c");
  after(5, () => ask(0, "a"));
  await run();
  expect(sent.map(({ names }) => names)).toEqual([["b", "c"], ["b", "c"], ["b", "c"], ["a"]]);
  expect(new Set(stubs).size).toBe(4);
});

test("an overloaded object is left alone: what waits for it or asks it is refused unsent, except rollbacks", async () => {
  const error = vi.spyOn(console, "error").mockImplementation(() => {});
  const { ask, after, run, sent, results } = queuesOver((object, nth) =>
    object === "a" && nth <= 3 ? Promise.reject(lost({ overloaded: true })) : undefined,
  );
  ask(0, "a");
  after(5, () => ask(1, "b"));
  after(6, () => ask(2, "back", 1_000, "a", "rollBack"));
  after(30, () => ask(3, "c"));
  after(31, () => ask(4, "other", 1_000, "other"));
  after(2_000, () => ask(5, "d"));
  await run();
  expect(sent.map(({ names, atMs }) => [names.join(), atMs])).toEqual([
    ["a", 0],
    ["back", 10],
    ["other", 31],
    ["d", 2_000],
  ]);
  expect(results).toEqual([
    ["a", "connection lost", 10],
    ["b", "left alone", 10],
    ["back", "connection lost", 20],
    ["c", "left alone", 30],
    ["other", "other", 41],
    ["d", "d", 2_010],
  ]);
  expect(error).toHaveBeenCalledTimes(1);
  error.mockRestore();
});

test("a call that fails in its object fails alone", async () => {
  const { ask, run, results } = queuesOver();
  ask(0, "a");
  ask(1, "fails");
  ask(2, "c");
  await run();
  expect(results.map(([name, result]) => [name, result])).toEqual([
    ["a", "a"],
    ["fails", "no room"],
    ["c", "c"],
  ]);
});

test("each call is given up at its own deadline; the next message goes once all calls of a message are given up", async () => {
  const { ask, after, run, sent, results } = queuesOver((_, nth) => (nth === 1 ? NEVER : undefined));
  ask(0, "soon", 100);
  ask(1, "late", 300);
  after(50, () => ask(2, "waits in vain", 200));
  after(60, () => ask(3, "waits", 500));
  await run();
  expect(results).toEqual([
    ["soon", "given up", 100],
    ["waits in vain", "not sent", 250],
    ["late", "given up", 300],
    ["waits", "waits", 310],
  ]);
  expect(sent.map(({ names, atMs }) => [...names, atMs])).toEqual([
    ["soon", "late", 0],
    ["waits", 300],
  ]);
});

test("calls are given up in time whose deadlines are fractions of a millisecond, and when the clock goes back", async () => {
  const clock = { behindMs: 0 };
  const { ask, after, run, results } = queuesOver((_, nth) => (nth === 1 ? NEVER : undefined), clock);
  ask(0, "silent", 1_000);
  after(5, () => ask(1, "waits", 100.2));
  after(10, () => ask(2, "waits longer", 200));
  after(150, () => {
    clock.behindMs = 60_000;
  });
  await run();
  expect(results).toEqual([
    ["waits", "not sent", 106],
    ["waits longer", "not sent", 210],
    ["silent", "given up", 1_000],
  ]);
});

test("only the calls to an unreachable object wait for it", async () => {
  const { ask, after, run, results } = queuesOver((object) => (object === "unreachable" ? NEVER : undefined));
  ask(0, "a", 1_000, "unreachable");
  ask(1, "b");
  after(20, () => ask(2, "c"));
  await run();
  expect(results).toEqual([
    ["b", "b", 10],
    ["c", "c", 30],
    ["a", "given up", 1_000],
  ]);
});

test("of more than 10,000 calls that wait the last are refused at once, and no rollback is", async () => {
  const { ask, after, run, sent, results } = queuesOver();
  ask(0, "first");
  after(5, () => {
    for (let i = 0; i < 10_002; i++) ask(i, i < 10_000 ? "waits" : "refused");
    ask(10_002, "back", 1_000, "a", "rollBack");
  });
  await run();
  expect(sent.map(({ names, atMs }) => [names.length, names[0], atMs])).toEqual([
    [1, "first", 0],
    [10_001, "back", 10],
  ]);
  const refused = results.filter(([name]) => name === "refused");
  expect(refused).toEqual(Array.from({ length: 2 }, () => ["refused", "not sent", 5]));
});

test("only as many calls may wait as the object answers in half of a deadline, and more again once it is faster", async () => {
  const slow = () => new Promise<void>((resolve) => after(790, resolve));
  const { ask, after, run, sent, results } = queuesOver((_, nth) => (nth === 1 ? slow() : undefined));
  const askMany = (count: number, name: string) => {
    for (let i = 0; i < count; i++) ask(i, name);
  };
  askMany(400, "slow");
  after(795, () => ask(0, "waits"));
  // 400 took 800 ms, so 250 take half of a second.
  after(805, () => askMany(300, "of 300"));
  after(815, () => askMany(400, "of 400"));
  await run();
  expect(sent.map(({ names, atMs }) => [names.length, atMs])).toEqual([
    [400, 0],
    [1, 800],
    [250, 810],
    [312, 820],
  ]);
  const refused = results.filter(([, result]) => result === "not sent");
  expect(refused.map(([, , atMs]) => atMs)).toEqual([...Array(50).fill(805), ...Array(88).fill(815)]);
});

test("a charge that too many wait for is rolled back where it was charged, and nowhere else", async () => {
  const scheduler = new Scheduler(new Chance(1));
  const ledgers = new Ledgers();
  const sent: string[] = [];
  const objects = {
    getByName: (object: string) => ({
      decide: async (calls: readonly Call[]) => {
        const isFirst = !sent.includes("consume ip");
        sent.push(...calls.map(({ method }) => `${method} ${object.split(":")[0]}`));
        await scheduler.sleep(isFirst && object.startsWith("ip") ? 600 : 10);
        return ledgers.decide(object, calls, scheduler.nowMs);
      },
    }),
  };
  const queues = new CallQueues(objects, { locationHint: undefined }, scheduler);
  const config = { placement: { kind: "key" }, deadlineMs: 1_000 } as const;
  const fanOut = new FanOut(queues.forBatch(), config, scheduler);
  const counter = (layer: string, key: string) => ({ layer, key, limits: [{ max: 5_000, windowMs: 60_000 }] });
  const consume = (i: number) => {
    const question = {
      policy: "chat",
      cost: 1,
      counters: [counter("caller", `user:${i}`), counter("ip", "ip:1.2.3.4")],
      id: `id-${i}`,
      identity: `caller=${i},ip=1`,
      aliases: [],
      windowMs: 60_000,
      attemptMs: 2_000,
    };
    const giveUpAtMs = scheduler.nowMs + 1_000;
    const asker = new Asker(`a${i}`, i, giveUpAtMs, "refuse");
    return heard<ConsumeVerdict>((hearer) => fanOut.consume(question, asker, false, hearer));
  };
  vi.spyOn(console, "error").mockImplementation(() => {});
  const consuming: Promise<unknown>[] = [];
  const consumeMany = (count: number) => {
    for (let i = 0; i < count; i++)
      consuming.push(
        consume(consuming.length).then(
          ({ allowed }) => allowed,
          ({ kind }) => kind,
        ),
      );
  };
  // 100 calls take three quarters of their time, so only 66 may wait from then on.
  consumeMany(100);
  scheduler.after(300, () => consumeMany(50));
  scheduler.after(605, () => consumeMany(200));
  await scheduler.run();
  const outcomes = await Promise.all(consuming);
  const count = (items: readonly unknown[], item: unknown) => items.filter((other) => other === item).length;
  expect([count(outcomes, true), count(outcomes, "unreachable")]).toEqual([216, 134]);
  expect([count(sent, "consume ip"), count(sent, "rollBack user"), count(sent, "rollBack ip")]).toEqual([216, 134, 0]);
});

test("a call without time left is not sent", async () => {
  const { ask, run, sent, results } = queuesOver();
  ask(0, "a", 0);
  await run();
  expect([sent, results]).toEqual([[], [["a", "not sent", 0]]]);
});

test("whoever hears of an end may ask again at once, and no call is lost or heard of twice", async () => {
  const scheduler = new Scheduler(new Chance(1));
  const sent: string[][] = [];
  const decide = async (calls: readonly Call[]): Promise<CallResult[]> => {
    sent.push(calls.map(nameOf));
    await scheduler.sleep(10);
    return calls.map((call) => ({ verdict: nameOf(call) })) as never;
  };
  const queues = new CallQueues({ getByName: () => ({ decide }) }, { locationHint: undefined }, scheduler);
  const calls = queues.forBatch();
  const heardOf: string[] = [];
  const ask = (name: string, deadlineMs: number, ...next: [name: string, deadlineMs: number][]) => {
    const goOn = (end: string) => {
      heardOf.push(`${name} ${end}`);
      const [first, ...others] = next;
      if (first) ask(...first, ...others);
    };
    const hearer = { answered: () => goOn("answered"), failed: () => goOn("failed") };
    calls.ask("a", "check", { policy: name } as never, scheduler.nowMs + deadlineMs, 0, hearer);
  };
  ask("expired", 0, ["after it", 50]);
  ask("in time", 50, ["at the answer", 50]);
  ask("given up", 5, ["meanwhile", 2], ["at last", 50]);
  await scheduler.run();
  expect(sent).toEqual([
    ["in time", "given up"],
    ["after it", "at last", "at the answer"],
  ]);
  expect(heardOf).toEqual([
    "expired failed",
    "given up failed",
    "meanwhile failed",
    "in time answered",
    "after it answered",
    "at last answered",
    "at the answer answered",
  ]);
});
