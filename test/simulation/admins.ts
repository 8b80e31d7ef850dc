import type { Config } from "../../src/config/config";
import { readOverride } from "../../src/edge/override";
import { Refusal } from "../../src/edge/refusal";
import type { Isolate } from "./callers";
import type { Chance } from "./chance";
import type { Network } from "./network";
import type { ToldOrder } from "./orders";
import type { Scheduler } from "./scheduler";

/** Lower ones and higher, narrower and wider, one wider than any of the policies, and one on what is under way. */
const OTHER_LIMITS = [
  ["1 per 2 seconds"],
  ["12 per 2 seconds", "30 per 20 seconds"],
  ["3 per second", "8 per 25 seconds"],
  ["2 concurrent per 20 seconds", "9 per 5 seconds"],
];
const KEYS = ["user:u0", "user:u1", "ip:10.0.0.0", "ip:10.0.0.1"];

/** Admins, each of whom bans and exempts keys, gives them other limits, and lifts all that, one after the other. */
export class Admins {
  readonly told: ToldOrder[] = [];
  #orders = 0;

  constructor(
    private readonly config: Config,
    private readonly isolates: readonly Isolate[],
    private readonly network: Network,
    private readonly scheduler: Scheduler,
    private readonly chance: Chance,
  ) {}

  async run(orders: number): Promise<void> {
    const { chance, scheduler } = this;
    for (let order = 0; order < orders; order++) {
      await scheduler.sleep(chance.below(chance.is(0.2) ? 6_000 : 800));
      const key = chance.of(KEYS);
      const body = chance.is(0.25) ? undefined : this.#override(key);
      // Not every admin who hears nothing tries again.
      for (let tries = 0; tries < 3; tries++) if ((await this.#order(key, body)) || chance.is(0.5)) break;
    }
  }

  /** True if the admin knows that it is done. */
  async #order(key: string, body: object | undefined): Promise<boolean> {
    const { network, scheduler, config } = this;
    const { keys, number: isolate } = this.chance.of(this.isolates);
    const [askedAtMs, before] = [scheduler.nowMs, network.orders.length];
    try {
      const asked = body && readOverride(body, key, config, scheduler.nowMs);
      const told = asked ? (await keys.setOverride(key, asked)).override : await keys.liftOverride(key);
      const [toldAtMs, after, deedsBefore] = [scheduler.nowMs, network.orders.length, network.deeds.length];
      const what = { isolate, key, asked, told: told ?? undefined };
      this.told.push({ ...what, askedAtMs, toldAtMs, before, after, deedsBefore });
      return true;
    } catch (error) {
      // One that ends at an instant may be sent again when that has passed.
      if (error instanceof Refusal && (error.kind === "unreachable" || error.kind === "invalid")) return false;
      throw error;
    }
  }

  /** As it is sent: each is for a reason of its own, by which it can be told from others. */
  #override(key: string): object {
    const { chance, scheduler } = this;
    const kind = chance.of(["ban", "exempt", "limits"]);
    const seconds = 1 + chance.below(chance.of([4, 20, 40]));
    const at = new Date(scheduler.nowMs + seconds * 1_000 - chance.below(1_000)).toISOString();
    const ends = chance.is(0.5) ? { expires_in_seconds: seconds } : { expires_at: at };
    const counted = key.startsWith("ip:") ? chance.of([["caller"], ["ip"], ["caller", "ip"]]) : ["caller"];
    const limits = counted.map((layer) => ({ policy: "small", layer, limits: chance.of(OTHER_LIMITS) }));
    return { kind, reason: `order ${this.#orders++}`, ...ends, ...(kind === "limits" && { limits }) };
  }
}
