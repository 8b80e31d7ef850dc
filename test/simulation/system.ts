import type { Config } from "../../src/config/config";
import { costIn } from "../../src/core/cost";
import { MAX_EVENTS } from "../../src/core/sliding-window";
import { Keys } from "../../src/limiter/keys";
import { Limiter } from "../../src/limiter/limiter";
import { MemoryBudget } from "../../src/object/account-cache";
import { Ledger } from "../../src/object/ledger";
import { readPage } from "../../src/object/page";
import type { PageStore } from "../../src/object/page-store";
import { Store } from "../../src/object/store/store";
import type { ObjectNamespace } from "../../src/objects/binding";
import { DenialCache } from "../../src/objects/denial-cache";
import type { Scheduler } from "../../tools/scheduler";
import { SqliteStorage } from "../../tools/sqlite-storage";
import { DISK_FULL, Disk, type ObjectDisk } from "./disk";

/** Builds the parts of the service that the simulation runs, and reads what they store. No other file here knows how. */

export { MAX_EVENTS };

/** How far a clock may jump back behind a sweep. Shorter than in production, since histories are short. */
export const CLOCK_MARGIN_MS = 2_000;

/** The machine that all objects of a history run on. Shares are from 0 to 1. */
export interface Machine {
  /** How coarse the clocks are. On a coarse clock events meet the ends of windows to the millisecond. */
  readonly tickMs: number;
  /** How far the clocks are apart at first, at most. */
  readonly skewMs: number;
  readonly memoryBytes: number;
  /** On small pages a few events fill many pages. */
  readonly pageChars: number;
  /** The share of messages with which an alarm arrives. */
  readonly sweepShare: number;
  /** The longest journal. Undefined keeps pages in maps, which is faster, without a journal. */
  readonly journalChars?: number | undefined;
  /** How many events a counter holds at most. Undefined is as many as in production. */
  readonly mostEvents?: number | undefined;
  /** The share of turns that an object opened anew decides too. */
  readonly reopenShare: number;
}

export function newDisk({ journalChars }: Machine, isFull: () => boolean): ObjectDisk {
  if (journalChars === undefined) return new Disk(isFull);
  const storage = new SqliteStorage(() => {
    if (isFull()) throw new Error(DISK_FULL);
  });
  return {
    open: () => new Store(storage as unknown as DurableObjectStorage, journalChars),
    commit: () => storage.commit(),
    crash: () => storage.crash(),
    trial: (work) => storage.trial(work),
    close: () => storage.close(),
  };
}

export function newLedger(store: PageStore, { memoryBytes, pageChars, mostEvents }: Machine): Ledger {
  return new Ledger(store, new MemoryBudget(memoryBytes), pageChars, CLOCK_MARGIN_MS, mostEvents);
}

/** An isolate of the Worker: a limiter with a denial cache of its own. */
export interface Isolate {
  readonly number: number;
  readonly limiter: Limiter;
  readonly keys: Keys;
}

/** `offsetMs`: how far the isolate's clock is ahead of the true time. */
export function newIsolate(
  number: number,
  config: Config,
  objects: ObjectNamespace,
  scheduler: Scheduler,
  offsetMs = 0,
): Isolate {
  const denials = new DenialCache(config.denyCacheMs, () => scheduler.nowMs + offsetMs);
  const limiter = new Limiter(config, objects, scheduler, denials);
  return { number, limiter, keys: new Keys(config, objects, scheduler, denials) };
}

interface StoredEvent {
  readonly key: string;
  readonly id: string;
  readonly identity: string;
  /** In each layer of the key: what counts now, and what it was admitted with. */
  readonly costs: readonly string[];
  readonly released: boolean;
  readonly atMs: number;
}

/** Every stored event, whether in a page or in the journal. */
export function storedEvents(disk: ObjectDisk): StoredEvent[] {
  return disk.trial(() => {
    const store = disk.open();
    while (store.checkpoint(store.newestTurn));
    return store.pagesAfter("", -1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER).flatMap(({ key, slot }) =>
      readPage(store.loadPage(key, slot) ?? "").map(({ id, identity, cost, admittedCost, charged, released, atMs }) => {
        const costs = charged.layers.map(
          (layer) => `${layer} ${costIn(cost, layer)} of ${costIn(admittedCost, layer)}`,
        );
        return { key, id, identity, costs, released, atMs };
      }),
    );
  });
}
