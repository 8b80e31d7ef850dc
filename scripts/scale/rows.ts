import { assert } from "../../src/core/assert";
import { MemoryBudget } from "../../src/object/account-cache";
import { Ledger } from "../../src/object/ledger";
import type { Call } from "../../src/object/protocol";
import { ISOLATE_BUDGET } from "../../src/object/store/journal-budget";
import { Store } from "../../src/object/store/store";
import { Chance } from "../../tools/chance";
import { SqliteStorage } from "../../tools/sqlite-storage";

const WINDOW_MS = 60_000;
const LIMITS = [{ max: 1_000_000, windowMs: WINDOW_MS }];

const MEMORY_BYTES = 48 * 1_048_576;

/** A tenth of the keys and of the journal: as many changes of a page share a checkpoint as with all of them. */
const TENTH = 10;
/** Fewer keys are not divided: the decisions of a turn would meet on one key too often. */
const FEW_KEYS = 250;

/** Until the ring turns and some pages are full, if turns are large enough for a journal. */
const WARM_UP = { decisions: 8_000, turns: 1_500 };
const COUNTED = { decisions: 4_000, turns: 600 };

/** The keys of one object. Each asks once in `everyMs`, at random instants. */
export interface Keys {
  readonly count: number;
  readonly everyMs: number;
  /** How many objects share the memory of an isolate, and with it the size of their journals. */
  readonly objects: number;
}

/**
 * The rows that a decision writes, on average, if the turns of an object have so many decisions. The real ledger and the
 * real store decide and write, on a real SQLite, which counts the rows.
 */
export function rowsADecision(turns: readonly number[], { count, everyMs, objects }: Keys): number {
  const keys = count < FEW_KEYS ? Math.ceil(count) : count / TENTH;
  const { journalChars, totalChars } = ISOLATE_BUDGET;
  const storage = new SqliteStorage();
  const store = new Store(storage as never, Math.min(journalChars, totalChars / objects) / TENTH);
  const ledger = new Ledger(store, new MemoryBudget(MEMORY_BYTES));
  const chance = new Chance(1);
  let nowMs = 1_800_000_000_000;
  let next = 0;
  /** Makes so many decisions or turns, whichever is less. Returns the decisions. */
  const decide = (most: typeof WARM_UP) => {
    let decisions = 0;
    for (let i = 0; i < most.turns && decisions < most.decisions; i++) {
      const turn = turns[next++ % turns.length] as number;
      decisions += turn;
      nowMs += (turn * everyMs) / keys;
      const calls = Array.from({ length: turn }, () => consume(`user:u_${chance.below(keys)}`, chance));
      const failed = ledger.decide(calls, Math.floor(nowMs)).find((result) => !("verdict" in result));
      assert(failed === undefined, `every call is decided: ${JSON.stringify(failed)}`);
      storage.commit();
    }
    return decisions;
  };
  decide(WARM_UP);
  const rowsBefore = storage.rowsWritten;
  const decisions = decide(COUNTED);
  const rows = storage.rowsWritten - rowsBefore;
  storage.close();
  return rows / decisions;
}

/** A consume with an idempotency key, as clients send it. Everything has the length that it has in production. */
function consume(key: string, chance: Chance): Call {
  const hex = () => chance.below(65_536).toString(16).padStart(4, "0");
  return {
    method: "consume",
    question: {
      policy: "chat",
      cost: 1,
      counters: [{ layer: "caller", key, limits: LIMITS }],
      id: `${hex()}${hex()}-${hex()}-${hex()}-${hex()}-${hex()}${hex()}${hex()}`,
      identity: `caller=${hex()}${hex()}${hex()}${hex()}${hex()}`,
      attempt: `${hex()}${hex()}00`,
      windowMs: WINDOW_MS,
      attemptMs: 2_000,
      isOnlyPart: true,
    },
  };
}
