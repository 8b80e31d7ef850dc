import { Ledger } from "../../src/object/ledger";
import type { Call, CallResult } from "../../src/object/protocol";
import { Disk } from "./disk";

/** Objects by name: each is a real ledger over a disk of its own. */
export class Ledgers {
  readonly #disks = new Map<string, Disk>();
  readonly #ledgers = new Map<string, Ledger>();

  constructor(
    private readonly clockMarginMs?: number,
    private readonly mostEvents?: number,
  ) {}

  of(object: string): Ledger {
    const ledger = this.#ledgers.get(object) ?? this.#open(object);
    this.#ledgers.set(object, ledger);
    return ledger;
  }

  /** Decides as an object does: calls and results travel as JSON. */
  decide(object: string, calls: readonly Call[], wallMs: number): CallResult[] {
    return throughJson(this.of(object).decide(throughJson(calls), wallMs));
  }

  /** Drops all objects from memory. Their disks stay. */
  evict(): void {
    this.#ledgers.clear();
  }

  sweep(wallMs: number): void {
    for (const ledger of this.#ledgers.values()) for (const _ of ledger.sweep(wallMs));
  }

  #open(object: string): Ledger {
    const disk = this.#disks.get(object) ?? new Disk();
    this.#disks.set(object, disk);
    return new Ledger(disk, undefined, undefined, this.clockMarginMs, this.mostEvents);
  }
}

/** The error of a call whose connection broke. The runtime says that it may be retried. */
export function connectionLost(): Error {
  return Object.assign(new Error("Network connection lost."), { retryable: true });
}

function throughJson<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
