import { setImmediate } from "node:timers/promises";
import type { Timing } from "../src/objects/timing";
import type { Chance } from "./chance";

interface Task {
  readonly atMs: number;
  readonly work: () => void;
  isCancelled: boolean;
}

/** A run with more tasks does not end. */
const MOST_TASKS = 10_000_000;

/** Virtual time. Tasks run in the order of their times. Everything that a task sets off runs before the next task. */
export class Scheduler implements Timing {
  nowMs = 1_800_000_000_000;
  readonly #tasks: Task[] = [];

  constructor(private readonly chance: Chance) {}

  now = (): number => this.nowMs;

  random = (): number => this.chance.next();

  after(ms: number, work: () => void): () => void {
    const task = { atMs: this.nowMs + Math.max(0, ms), work, isCancelled: false };
    this.#tasks.splice(this.#placeOf(task), 0, task);
    return () => {
      task.isCancelled = true;
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Runs until no task is left. */
  async run(): Promise<void> {
    let runs = 0;
    // `setImmediate` lets every promise settle that can: they may add tasks.
    for (await setImmediate(); this.#tasks.length > 0; await setImmediate())
      for (let task = this.#tasks.shift(); task; task = this.#tasks.shift()) {
        if (task.isCancelled) continue;
        if (++runs > MOST_TASKS) throw new Error(`still running after ${MOST_TASKS} tasks`);
        this.nowMs = task.atMs;
        task.work();
        await settled();
      }
  }

  /** Before all tasks that are due later. */
  #placeOf({ atMs }: Task): number {
    let [from, to] = [0, this.#tasks.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#tasks[middle] as Task).atMs > atMs) to = middle;
      else from = middle + 1;
    }
    return from;
  }
}

/** Waits for everything that a task set off: Node runs `nextTick` once no promise is left to settle. */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
