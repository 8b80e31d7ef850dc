import { setImmediate } from "node:timers/promises";
import type { Timing } from "../../src/objects/deadline";
import type { Chance } from "../../tools/chance";

interface Task {
  readonly atMs: number;
  readonly order: number;
  readonly work: () => void;
}

/** Virtual time: what is due runs in the order of its time, and everything that follows from it before the next. */
export class Scheduler implements Timing {
  nowMs = 1_800_000_000_000;
  readonly #tasks: Task[] = [];
  #order = 0;

  constructor(private readonly chance: Chance) {}

  now = (): number => this.nowMs;

  random = (): number => this.chance.next();

  after(ms: number, work: () => void): () => void {
    const task = { atMs: this.nowMs + Math.max(0, ms), order: this.#order++, work };
    let i = this.#tasks.length;
    while (i > 0 && (this.#tasks[i - 1] as Task).atMs > task.atMs) i--;
    this.#tasks.splice(i, 0, task);
    return () => {
      const at = this.#tasks.indexOf(task);
      if (at >= 0) this.#tasks.splice(at, 1);
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Runs until nothing is left to do. */
  async run(): Promise<void> {
    for (;;) {
      // All that is settled by now, however long the chain of promises.
      await setImmediate();
      if (this.#tasks.length === 0) return;
      for (let task = this.#tasks.shift(); task; task = this.#tasks.shift()) {
        this.nowMs = task.atMs;
        task.work();
        await settled();
      }
    }
  }
}

/** Everything that a task sets off, however long the chain of promises: ticks run once no promise is left to settle. */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
