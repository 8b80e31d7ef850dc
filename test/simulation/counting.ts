import { Policy } from "../../src/core/policy";
import { Bookkeeper } from "../../src/counting/bookkeeper";
import { Counts } from "../../src/counting/counts";
import { STATS_NAMES, StatsObjects, type StatsStub } from "../../src/counting/stats-objects";
import { StatsStore } from "../../src/counting/stats-store";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { SqliteStorage } from "../../tools/sqlite-storage";

/** How often each fault happens, from 0 to 1. */
interface Faults {
  readonly lost: number;
  readonly repeated: number;
  readonly slow: number;
  readonly diskFull: number;
  readonly crash: number;
  /** The share of requests after which their isolate ends. */
  readonly death: number;
}

const POLICY = new Policy("chat", []);
const DEADLINE_MS = 300;
/** An object that is idle leaves memory. */
const IDLE_MS = 10_000;
/** Longer than any pause between two tries to send. */
const LONGEST_SILENCE_MS = 600_000;

/** An object that adds up counts: a bookkeeper in memory, a disk, an alarm, and a clock that may go back. */
class SimulatedStatsObject {
  readonly #storage: SqliteStorage;
  #bookkeeper: Bookkeeper | undefined;
  #cancelAlarm = () => {};
  #cancelRest = () => {};
  #clockOffsetMs = 0;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    private readonly world: CountingWorld,
  ) {
    this.#storage = new SqliteStorage(() => {
      if (this.chance.is(this.world.faults.diskFull)) throw new Error("the disk is full");
    });
  }

  /** Does the work of a call, durably, unless the object crashes. It then starts anew from its disk. */
  run<T>(work: (bookkeeper: Bookkeeper) => T): T {
    this.#cancelRest();
    this.#cancelRest = this.scheduler.after(IDLE_MS, () => this.#leaveMemory());
    if (this.chance.is(0.02)) this.#clockOffsetMs = this.chance.below(4_000) - 2_000;
    this.#bookkeeper ??= this.#wake();
    const result = work(this.#bookkeeper);
    if (this.chance.is(this.world.faults.crash)) {
      this.#storage.crash();
      this.#leaveMemory();
      throw Object.assign(new Error("reset"), { durableObjectReset: true });
    }
    this.#storage.commit();
    return result;
  }

  close(): void {
    this.#storage.close();
  }

  #leaveMemory(): void {
    this.#cancelRest();
    this.#bookkeeper = undefined;
  }

  #wake(): Bookkeeper {
    const now = () => this.scheduler.nowMs + this.#clockOffsetMs;
    return new Bookkeeper(new StatsStore(this.#storage as unknown as DurableObjectStorage), {
      now,
      setAlarm: (atMs) => {
        this.#cancelAlarm();
        this.#cancelAlarm = this.scheduler.after(atMs - now(), () => this.#ring());
      },
    });
  }

  #ring(): void {
    // The day ends long after the history, which would run on for ever if alarms were repeated then.
    if (this.world.isOver) return;
    try {
      this.run((bookkeeper) => bookkeeper.onAlarm());
    } catch {
      // The platform rings again.
      this.#cancelAlarm = this.scheduler.after(2_000, () => this.#ring());
    }
  }
}

/** Isolates that count, and the objects that add up, over a network that delays, loses and repeats. */
class CountingWorld {
  readonly objects = new Map<string, SimulatedStatsObject>();
  isOver = false;

  constructor(
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
    public faults: Faults,
  ) {
    for (const name of STATS_NAMES) this.objects.set(name, new SimulatedStatsObject(scheduler, chance, this));
  }

  newCounts(): Counts {
    const config = { policies: new Map([[POLICY.name, POLICY]]), locationHint: undefined, deadlineMs: DEADLINE_MS };
    return new Counts(config, { objects: new StatsObjects(this, config, this.scheduler) }, this.scheduler);
  }

  getByName(name: string): StatsStub {
    const object = this.objects.get(name);
    if (!object) throw new Error(`no object ${name}`);
    return {
      add: (sums) => this.#send(object, (bookkeeper) => bookkeeper.add(structuredClone(sums))),
      write: () => this.#send(object, (bookkeeper) => bookkeeper.write()),
      recent: (minutes) => this.#send(object, (bookkeeper) => structuredClone(bookkeeper.recent(minutes))),
      totals: () => this.#send(object, (bookkeeper) => structuredClone(bookkeeper.totals())),
    };
  }

  #send<T>(object: SimulatedStatsObject, work: (bookkeeper: Bookkeeper) => T): Promise<T> {
    const { scheduler, chance, faults } = this;
    return new Promise((resolve, reject) => {
      const arrive = () => {
        let answer: () => void;
        try {
          const result = object.run(work);
          answer = () => resolve(result);
        } catch (error) {
          answer = () => reject(error);
        }
        const isLost = chance.is(faults.lost);
        scheduler.after(this.#delayMs(), () =>
          isLost ? reject(Object.assign(new Error("lost"), { retryable: chance.is(0.5) })) : answer(),
        );
      };
      if (chance.is(faults.repeated)) scheduler.after(this.#delayMs(), arrive);
      if (chance.is(faults.lost)) scheduler.after(this.#delayMs(), () => reject(new Error("lost")));
      else scheduler.after(this.#delayMs(), arrive);
    });
  }

  #delayMs(): number {
    return 1 + this.chance.below(this.chance.is(this.faults.slow) ? 20_000 : 20);
  }
}

function faultsOf(chance: Chance): Faults {
  const share = (most: number) => (chance.is(0.5) ? chance.next() * most : 0);
  const network = { lost: share(0.4), repeated: share(0.3), slow: share(0.2), diskFull: share(0.2) };
  // What is lost with an object or an isolate may be missing. So half of the histories lose none, and miss nothing.
  if (chance.is(0.5)) return { ...network, crash: 0, death: 0 };
  return { ...network, crash: share(0.1), death: share(0.1) };
}

/**
 * A history of counting. The mistakes that it finds: a request that is counted twice, or not at all without a crash; a
 * total that goes down; an isolate that still has sums long after the faults.
 */
export async function runCountingHistory(seed: number): Promise<string[]> {
  const chance = new Chance(seed);
  const scheduler = new Scheduler(chance);
  const faults = faultsOf(chance);
  const world = new CountingWorld(scheduler, chance, faults);
  const mistakes: string[] = [];
  let counted = 0;
  let shown = 0;
  const isolates: Counts[] = [];

  const read = async () => {
    const reader = world.newCounts();
    const before = shown;
    // Undefined when an object was silent.
    const totals = await reader.totals().catch(() => undefined);
    if (!totals) return;
    const errors = totals.tallies.get("chat")?.error ?? 0;
    const requests = totals.signIns?.requests.get("backend") ?? 0;
    if (errors !== requests) mistakes.push(`${errors} decisions, but ${requests} requests`);
    // Another read may have been answered meanwhile, of a later time.
    if (errors < before) mistakes.push(`the total went down from ${before} to ${errors}`);
    if (errors > counted) mistakes.push(`${errors} are shown of ${counted} that were counted`);
    shown = Math.max(shown, errors);
  };
  const live = async (counts: Counts, slot: number) => {
    const requests = 5 + chance.below(30);
    let isolate = counts;
    for (let i = 0; i < requests; i++) {
      await scheduler.sleep(chance.below(chance.is(0.1) ? 40_000 : 3_000));
      isolate.onFailure(POLICY);
      isolate.countRequests("backend", 1);
      counted++;
      // The runtime may end a request that waits.
      isolate.sendLater((work) => void work);
      if (chance.is(0.1)) await isolate.send();
      if (chance.is(world.faults.death)) isolate = isolates[slot] = world.newCounts();
      if (chance.is(0.1)) await read();
    }
  };
  for (let slot = 0; slot < 1 + chance.below(6); slot++) isolates.push(world.newCounts());
  const lives = Promise.all(isolates.map((counts, slot) => live(counts, slot)));
  const ending = lives.then(async () => {
    world.faults = { lost: 0, repeated: 0, slow: 0, diskFull: 0, crash: 0, death: 0 };
    await scheduler.sleep(LONGEST_SILENCE_MS);
    for (const isolate of isolates) {
      await isolate.send();
      if (!isolate.isEmpty) mistakes.push("an isolate still has sums long after the faults");
    }
    // Everything leaves memory: what alarms had not written is lost.
    await scheduler.sleep(LONGEST_SILENCE_MS);
    await read();
    if (faults.crash === 0 && faults.death === 0 && shown !== counted)
      mistakes.push(`${shown} are shown of ${counted} that were counted, although nothing crashed`);
    world.isOver = true;
  });
  await scheduler.run();
  await ending;
  for (const object of world.objects.values()) object.close();
  return mistakes;
}
