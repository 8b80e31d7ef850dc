import { sharingTimers } from "../../src/objects/timing";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { Asker } from "./asker";
import { ASSUMED, sum } from "./bill";
import { ModelledObject } from "./modelled-object";

const { world, latency } = ASSUMED;

/** Nothing is counted at first. */
const WARM_UP_MS = 2 * latency.deadline;

export interface Load {
  /** Decisions that all backends together ask for. */
  readonly perSecond: number;
  /** How many hubs a region has. 0: backends use HTTP, with a call for each decision. */
  readonly hubs: number;
  /** How many objects the decisions are spread over. One key is in one object. */
  readonly objects: number;
  /** How long an object works on a decision, if not as assumed. */
  readonly decisionMs?: number;
  /** How long nothing is counted. */
  readonly warmUpMs?: number;
}

/** What happened in the measured seconds. */
export interface Outcome {
  readonly seconds: number;
  readonly decided: number;
  readonly refused: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly calls: number;
  /** The decisions of each turn of an object. */
  readonly turns: readonly number[];
  /** How long hubs and objects were active, added up. */
  readonly activeMs: number;
  /** The most calls that one hub, or one isolate of the Worker, had in flight to one object. */
  readonly mostInFlight: number;
  /** What was asked from the beginning. */
  readonly asked: number;
}

/**
 * Backends all over the world ask for decisions at random instants (a Poisson process), each over a session to a hub of its
 * region. The hubs' call queues are real. Objects, network and time are modelled. A load always has the same outcome.
 */
export function simulate(load: Load): Promise<Outcome> {
  return new World(load).run();
}

class World {
  readonly #chance = new Chance(1);
  readonly #scheduler = new Scheduler(this.#chance);
  /** Those that were asked. */
  readonly #objects = new Map<string, ModelledObject>();
  readonly #regions: readonly Asker[][];
  /** Where each backend asks. */
  readonly #backends: readonly Asker[];
  readonly #seconds: number;
  readonly #startMs: number;
  readonly #endMs: number;
  readonly #latenciesMs: number[] = [];
  #refused = 0;
  #asked = 0;

  constructor(private readonly load: Load) {
    const { perSecond, hubs, warmUpMs = WARM_UP_MS } = load;
    this.#startMs = this.#scheduler.nowMs + warmUpMs;
    this.#seconds = Math.min(30, Math.max(1, 5_000 / perSecond));
    this.#endMs = this.#startMs + 1_000 * this.#seconds;
    // The runtime's clock shows whole milliseconds.
    const now = () => Math.floor(this.#scheduler.nowMs);
    const after = (ms: number, work: () => void) => this.#scheduler.after(ms, work);
    const timing = sharingTimers({ now, after, random: this.#scheduler.random });
    const objectAt = (name: string) => this.#objectAt(name);
    this.#regions = Object.values(world.roundTripMs).map((roundTripMs) =>
      Array.from(
        { length: hubs || world.isolates },
        () => new Asker(hubs > 0, roundTripMs, objectAt, timing, this.#scheduler),
      ),
    );
    this.#backends = Array.from({ length: world.backends }, (_, i) =>
      this.#chance.of(this.#regions[i % this.#regions.length] as Asker[]),
    );
  }

  #objectAt(name: string): ModelledObject {
    const object = this.#objects.get(name) ?? new ModelledObject(this.#scheduler, this.load.decisionMs);
    this.#objects.set(name, object);
    return object;
  }

  async run(): Promise<Outcome> {
    let before = this.#sums();
    let after = before;
    this.#at(this.#startMs, () => (before = this.#sums()));
    this.#at(this.#endMs, () => (after = this.#sums()));
    this.#askNext();
    await this.#scheduler.run();

    const latenciesMs = this.#latenciesMs.sort((a, b) => a - b);
    const quantile = (share: number) => latenciesMs[Math.floor(latenciesMs.length * share)] ?? Number.NaN;
    return {
      seconds: this.#seconds,
      decided: latenciesMs.length,
      refused: this.#refused,
      p50Ms: quantile(0.5),
      p99Ms: quantile(0.99),
      calls: after.calls - before.calls,
      turns: [...this.#objects.values()].flatMap(({ turns }, i) => turns.slice(before.turns[i], after.turns[i] ?? 0)),
      activeMs: after.activeMs - before.activeMs,
      mostInFlight: Math.max(...this.#regions.flat().map(({ mostInFlight }) => mostInFlight)),
      asked: this.#asked,
    };
  }

  /** From the beginning until now. Workers are not billed by the time that they wait. */
  #sums() {
    const objects = [...this.#objects.values()];
    const billed = this.load.hubs > 0 ? [...objects, ...this.#regions.flat()] : objects;
    return {
      calls: sum(objects.map(({ calls }) => calls)),
      activeMs: sum(billed.map(({ inFlight }) => inFlight.activeMs)),
      turns: objects.map(({ turns }) => turns.length),
    };
  }

  #askNext(): void {
    const atMs = this.#scheduler.nowMs - (Math.log(1 - this.#chance.next()) * 1_000) / this.load.perSecond;
    if (atMs >= this.#endMs) return;
    this.#at(atMs, () => {
      void this.#ask();
      this.#askNext();
    });
  }

  async #ask(): Promise<void> {
    const askedAtMs = this.#scheduler.nowMs;
    this.#asked++;
    const isDecided = await this.#chance.of(this.#backends).ask(`object:${this.#chance.below(this.load.objects)}`);
    if (!this.#isMeasured()) return;
    if (isDecided) this.#latenciesMs.push(latency.near.edge + this.#scheduler.nowMs - askedAtMs);
    else this.#refused++;
  }

  #isMeasured(): boolean {
    const { nowMs } = this.#scheduler;
    return nowMs >= this.#startMs && nowMs < this.#endMs;
  }

  #at(atMs: number, work: () => void): void {
    this.#scheduler.after(atMs - this.#scheduler.nowMs, work);
  }
}
