import { AuditObject } from "../audit/audit-object";
import type { Sums } from "../counting/protocol";
import { StatsObject } from "../counting/stats-object";
import { DenialMemory } from "../object/denial-memory";
import { Ledger } from "../object/ledger";
import { LimiterObject } from "../object/object";
import { TestClock } from "./clock";

/** The clock of the Worker and all objects. A variable of the module is enough: locally they share an isolate. */
export const clock = new TestClock();

/** The object, on the test clock, and with a call that forgets everything. */
export class TestClockObject extends LimiterObject {
  protected override now(): number {
    return clock.nowForDecision();
  }

  /** Alarms ring by the real clock, so they are ignored here: storage grows until it is reset. */
  override async alarm(): Promise<void> {}

  async reset(): Promise<void> {
    this.ledger = new Ledger(this.store);
    this.denials = new DenialMemory();
    await this.store.deleteAll();
  }
}

export class TestStatsObject extends StatsObject {
  /** Counting is no decision: it does not keep the clock from being set back. */
  protected override now(): number {
    return clock.nowMs;
  }

  /** Alarms ring by the real clock, so counts are written at once. */
  override add(sums: Sums): void {
    super.add(sums);
    this.write();
  }

  override alarm(): void {}

  async reset(): Promise<void> {
    await this.store.deleteAll();
    this.bookkeeper = this.newBookkeeper();
  }
}

export class TestAuditObject extends AuditObject {
  /** Recording is no decision, as counting is none. */
  protected override now(): number {
    return clock.nowMs;
  }

  override async alarm(): Promise<void> {}

  async reset(): Promise<void> {
    await this.store.deleteAll();
  }
}
