import type { Config } from "../../src/config/config";
import { Keys } from "../../src/limiter/keys";
import { Limiter } from "../../src/limiter/limiter";
import { MemoryBudget } from "../../src/object/account-cache";
import { Ledger } from "../../src/object/ledger";
import { readPage } from "../../src/object/page";
import type { PageStore } from "../../src/object/page-store";
import { Store } from "../../src/object/store/store";
import type { ObjectNamespace } from "../../src/objects/binding";
import { DenialCache } from "../../src/objects/denial-cache";
import { Disk, type ObjectDisk } from "./disk";
import type { Scheduler } from "./scheduler";
import { SqliteStorage } from "./storage";

/** How the simulation makes the parts of the service that it runs, and reads what they store: nothing else here knows. */

/** So far a clock is put back behind a sweep: histories are short. */
export const CLOCK_MARGIN_MS = 2_000;

/** What all objects of a history run on. */
export interface Machine {
  /** How coarse the objects' clocks are: on a coarse one events meet the ends of windows to the millisecond. */
  readonly tickMs: number;
  /** How far the objects' clocks are apart, at most, all the time. */
  readonly skewMs: number;
  readonly memoryBytes: number;
  /** With small pages a few events are many pages. */
  readonly pageChars: number;
  /** How often an alarm comes with a call, from 0 to 1. */
  readonly sweeps: number;
  /** How long the journal may get; undefined where pages are kept in maps, which is faster, and there is no journal. */
  readonly journalChars?: number | undefined;
  /** How often a turn is decided by an object that was opened anew, too. */
  readonly reopenings: number;
}

export function newDisk({ journalChars }: Machine, isFull: () => boolean): ObjectDisk {
  if (journalChars === undefined) return new Disk(isFull);
  const storage = new SqliteStorage(isFull);
  return {
    open: () => new Store(storage as unknown as DurableObjectStorage, journalChars),
    commit: () => storage.commit(),
    crash: () => storage.crash(),
    trial: (work) => storage.trial(work),
    close: () => storage.close(),
  };
}

export function newLedger(store: PageStore, { memoryBytes, pageChars }: Machine): Ledger {
  return new Ledger(store, new MemoryBudget(memoryBytes), pageChars, CLOCK_MARGIN_MS);
}

/** Where callers are answered: a limiter with a memory of its own for denials. */
export interface Isolate {
  readonly number: number;
  readonly limiter: Limiter;
  readonly keys: Keys;
}

/** Nobody's clock is anybody else's. */
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
  readonly cost: number;
  readonly released: boolean;
  readonly atMs: number;
}

/** Every event that is stored, wherever it is. */
export function storedEvents(disk: ObjectDisk): StoredEvent[] {
  return disk.trial(() => {
    const store = disk.open();
    while (store.checkpoint(store.newestTurn));
    return store.pagesAfter("", -1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER).flatMap(({ key, slot }) =>
      readPage(store.loadPage(key, slot) ?? "").map(({ id, identity, cost, released, atMs }) => {
        return { key, id, identity, cost, released, atMs };
      }),
    );
  });
}
