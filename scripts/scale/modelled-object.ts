import { GroupCommit } from "../../src/object/group-commit";
import type { Call, CallResult } from "../../src/object/protocol";
import type { DecidingStub } from "../../src/objects/binding";
import type { Scheduler } from "../../tools/scheduler";
import { ASSUMED } from "./bill";
import { InFlight } from "./in-flight";

const { world, latency } = ASSUMED;

const ADMITTED: CallResult = {
  verdict: { allowed: true, atMs: 0, standings: [], replayed: false, conflicts: false, charged: true },
};

/**
 * An object with one thread, which takes calls in the order of their arrival. Each call takes the
 * thread for a while, each decision for a little longer. Calls that arrive while others wait share a turn, by the real group
 * commit. Answers wait for their commit, which leaves the thread free.
 */
export class ModelledObject implements DecidingStub {
  readonly inFlight: InFlight;
  /** The decisions of each turn. */
  readonly turns: number[] = [];
  calls = 0;
  #waiting = 0;
  /** Resolves when the thread is free. */
  #free = Promise.resolve();
  readonly #group = new GroupCommit(
    (calls) => this.#decide(calls),
    (work) => {
      const turn = () => {
        work();
        return this.#turnMs;
      };
      void this.#onThread(turn);
    },
  );

  constructor(
    private readonly scheduler: Scheduler,
    private readonly decisionMs: number = world.decisionMs,
    /** Decides the calls of a turn, in place of admitting everything. */
    private readonly decideTurn: (calls: readonly Call[]) => CallResult[] = (calls) => calls.map(() => ADMITTED),
  ) {
    this.inFlight = new InFlight(scheduler);
  }

  /** @throws an error like the runtime's if too many calls wait. */
  async decide(calls: readonly Call[]): Promise<CallResult[]> {
    if (this.#waiting >= world.mostWaiting) throw Object.assign(new Error("overloaded"), { overloaded: true });
    return this.inFlight.during(async () => {
      this.#waiting++;
      await this.#onThread(() => world.callMs);
      this.#waiting--;
      this.calls++;
      const results = await this.#group.add(calls);
      await this.scheduler.sleep(this.#turnMs + latency.commit);
      return results;
    });
  }

  get #turnMs(): number {
    return (this.turns.at(-1) ?? 0) * this.decisionMs;
  }

  #decide(calls: readonly Call[]): CallResult[] {
    this.turns.push(calls.length);
    return this.decideTurn(calls);
  }

  /** Does the work once the thread is free. The work returns how long it takes. */
  #onThread(work: () => number): Promise<void> {
    this.#free = this.#free.then(() => this.scheduler.sleep(work()));
    return this.#free;
  }
}
