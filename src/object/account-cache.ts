import type { Account } from "./account";

/** All objects of an isolate share its 128 MB. */
const MEMORY_BYTES = 32 * 1_048_576;

interface Entry {
  readonly cache: AccountCache;
  readonly account: Account;
  readonly weightBytes: number;
}

/**
 * Bounds the memory of all accounts in an isolate together, whatever their objects. The accounts used least recently are
 * dropped first. So the accounts of an object that has left memory go too: nobody uses them again.
 */
export class MemoryBudget {
  /** In the order of use: the account used last is the last. */
  readonly #entries = new Set<Entry>();
  #bytes = 0;

  constructor(private readonly mostBytes: number) {}

  hold(entry: Entry): void {
    this.#entries.add(entry);
    this.#bytes += entry.weightBytes;
    for (const oldest of this.#entries) {
      // The account that was used just now stays, however much it weighs.
      if (this.#bytes <= this.mostBytes || oldest === entry) break;
      oldest.cache.drop(oldest.account.key);
    }
  }

  release(entry: Entry): void {
    if (this.#entries.delete(entry)) this.#bytes -= entry.weightBytes;
  }
}

const ISOLATE = new MemoryBudget(MEMORY_BYTES);

/** The accounts of one object that are in memory. */
export class AccountCache {
  readonly #entries = new Map<string, Entry>();
  #weightBytes = 0;

  constructor(private readonly memory = ISOLATE) {}

  /** About how many bytes the accounts take. */
  get weightBytes(): number {
    return this.#weightBytes;
  }

  get(key: string): Account | undefined {
    return this.#entries.get(key)?.account;
  }

  /** Keeps an account that was used just now, unless it is empty. */
  keep(account: Account): void {
    this.drop(account.key);
    if (account.isEmpty) return;
    const entry = { cache: this, account, weightBytes: account.weightBytes };
    this.#entries.set(account.key, entry);
    this.#weightBytes += entry.weightBytes;
    this.memory.hold(entry);
  }

  drop(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#weightBytes -= entry.weightBytes;
    this.memory.release(entry);
  }
}
