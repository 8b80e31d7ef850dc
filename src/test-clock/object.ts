import { StatsObject } from "../counting/stats-object";
import { Ledger } from "../object/ledger";
import { LimiterObject } from "../object/object";
import { TestClock } from "./clock";

/**
 * One clock for the Worker and all of its objects: locally they share an isolate, so a variable of the module reaches
 * them all.
 */
export const clock = new TestClock();

/** The object as it always is, but for the clock that it asks, and that it can be made to forget everything at once. */
export class TestClockObject extends LimiterObject {
  protected override now(): number {
    return clock.nowForDecision();
  }

  /** Alarms ring by the real clock, which knows nothing of the time here: what is stored stays until it is reset. */
  override async alarm(): Promise<void> {}

  async reset(): Promise<void> {
    this.ledger = new Ledger(this.store);
    await this.store.deleteAll();
  }
}

export class TestStatsObject extends StatsObject {
  /** Counting is no decision: the clock may still be set to a time before. */
  protected override now(): number {
    return clock.nowMs;
  }

  override async alarm(): Promise<void> {}

  async reset(): Promise<void> {
    await this.forget();
  }
}
