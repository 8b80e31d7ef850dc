import type { GroupCommit } from "../../src/object/group-commit";
import type { Ledger } from "../../src/object/ledger";
import { SweepAlarm } from "../../src/object/sweep-alarm";
import type { ObjectDisk, WokenStore } from "./disk";
import { type Machine, newDisk, newLedger } from "./system";

/** An object: its ledger in memory, its disk, and a clock of its own that need not be right. */
export class SimulatedObject {
  readonly disk: ObjectDisk;
  store: WokenStore;
  ledger: Ledger;
  group: GroupCommit;
  alarm: SweepAlarm;
  /** When the alarm that is stored rings. */
  alarmAtMs: number | null = null;
  /** Called when what was written is durable. */
  #synced: (() => void)[] = [];
  /** The least and the most that the clock has ever been ahead of the true time. */
  readonly offsetsMs: [least: number, most: number];
  /** The latest time that the clock has ever shown. */
  latestMs = 0;
  /** The time of the last sweep, less the margin: the clock is never put back behind it. */
  sweptMs = 0;
  /** The latest time that the object is known to have used since it was opened. */
  usedMs = 0;
  /** What was executed and is not durable yet. */
  uncommitted: { isCommitted: boolean }[] = [];
  /** Goes up with every crash. A call that was in flight before the crash gets no answer. */
  incarnation = 0;
  /** The attempts that this incarnation has denied or rolled back. Their late calls charge nothing. */
  readonly endedAttempts = new Set<string>();
  /** When calls to the object were slow, lost or failed. */
  readonly faultsAtMs: number[] = [];

  constructor(
    readonly name: string,
    isDiskFull: () => boolean,
    private readonly machine: Machine,
    public clockOffsetMs: number,
    private readonly newGroup: (object: SimulatedObject) => GroupCommit,
    /** Runs work a little later: the alarm is stored by a transaction of its own. */
    private readonly soon: (work: () => void) => void,
  ) {
    this.offsetsMs = [clockOffsetMs, clockOffsetMs];
    this.disk = newDisk(machine, isDiskFull);
    this.store = this.disk.open();
    this.ledger = newLedger(this.store, machine);
    this.group = newGroup(this);
    this.alarm = this.#newAlarm();
  }

  /** How far the clock has ever been from the true time. */
  get furthestOffsetMs(): number {
    return Math.max(...this.offsetsMs.map(Math.abs));
  }

  /** Puts the clock forward, or back. */
  moveClock(byMs: number): void {
    this.clockOffsetMs += byMs;
    const [least, most] = this.offsetsMs;
    this.offsetsMs[0] = Math.min(least, this.clockOffsetMs);
    this.offsetsMs[1] = Math.max(most, this.clockOffsetMs);
  }

  crash(): void {
    this.incarnation++;
    this.disk.crash();
    this.store = this.disk.open();
    this.ledger = newLedger(this.store, this.machine);
    this.group = this.newGroup(this);
    this.#synced = [];
    this.alarm = this.#newAlarm();
    this.usedMs = 0;
    this.endedAttempts.clear();
    this.uncommitted = [];
  }

  commit(): void {
    this.disk.commit();
    for (const synced of this.#synced.splice(0)) synced();
  }

  /** An object without rows gives its storage and its alarm up, as the Durable Object does. Returns whether it did. */
  deleteIfEmpty(): boolean {
    if (!this.store.isEmpty) return false;
    void this.store.deleteAll();
    this.alarm.clear();
    this.alarmAtMs = null;
    return true;
  }

  healAlarm(wallMs: number): void {
    this.alarm.heal(wallMs, () => this.store.hasTables);
  }

  /** The alarm of this incarnation. What it has not stored when the object crashes is lost. */
  #newAlarm(): SweepAlarm {
    const { incarnation } = this;
    const alarm = new SweepAlarm({
      getAlarm: async () => this.alarmAtMs,
      setAlarm: async (atMs) =>
        this.soon(() => {
          if (this.incarnation === incarnation) this.alarmAtMs = atMs;
        }),
      sync: () => new Promise((resolve) => this.#synced.push(resolve)),
    });
    void alarm.load();
    return alarm;
  }
}
