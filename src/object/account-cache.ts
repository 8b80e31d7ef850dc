import type { Account } from "./account";

/** All objects of an isolate share its 128 MB, with 16 MB of journals and 8 MB of cached denials. */
const MEMORY_BYTES = 48 * 1_048_576;

interface Entry {
  readonly cache: AccountCache;
  readonly account: Account;
  /** As of the last use. */
  weightBytes: number;
  /** Increases with every use of any account. */
  lastUse: number;
  /** The place among all entries. */
  place: number;
}

/**
 * Bounds the memory of all accounts in an isolate together, whatever their objects.
 *
 * To make room it draws two accounts and drops the one that was used less recently. Dropping the least recently used of
 * all would drop every account just before its next use, once slightly more accounts than fit are used in turns. So the
 * accounts of an object that has left memory go too, in time: nobody uses them again.
 */
export class MemoryBudget {
  readonly #entries: Entry[] = [];
  #bytes = 0;
  #uses = 0;
  /** A random number that is the same in every run, so that a history can be repeated. */
  #random = 1;

  constructor(private readonly mostBytes: number) {}

  /** Holds an account from now on. */
  hold(cache: AccountCache, account: Account): Entry {
    const entry = { cache, account, weightBytes: 0, lastUse: 0, place: this.#entries.length };
    this.#entries.push(entry);
    return entry;
  }

  /** Counts a use of the account, and what it weighs now. Drops others if they weigh too much together, never this one. */
  use(entry: Entry): void {
    entry.lastUse = ++this.#uses;
    this.#bytes -= entry.weightBytes;
    entry.weightBytes = entry.account.weightBytes;
    this.#bytes += entry.weightBytes;
    while (this.#bytes > this.mostBytes && this.#entries.length > 1) {
      const [first, second] = [this.#drawOther(entry), this.#drawOther(entry)];
      const dropped = first.lastUse < second.lastUse ? first : second;
      dropped.cache.drop(dropped.account.key);
    }
  }

  release({ place, weightBytes }: Entry): void {
    const last = this.#entries.pop() as Entry;
    if (last.place !== place) {
      this.#entries[place] = last;
      last.place = place;
    }
    this.#bytes -= weightBytes;
  }

  #drawOther({ place }: Entry): Entry {
    // https://en.wikipedia.org/wiki/Linear_congruential_generator, the parameters of Numerical Recipes.
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    const drawn = Math.floor((this.#random / 2 ** 32) * (this.#entries.length - 1));
    return this.#entries[drawn < place ? drawn : drawn + 1] as Entry;
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
    if (account.isEmpty) {
      this.drop(account.key);
      return;
    }
    const entry = this.#entries.get(account.key) ?? this.memory.hold(this, account);
    this.#entries.set(account.key, entry);
    const weightBytes = entry.weightBytes;
    this.memory.use(entry);
    this.#weightBytes += entry.weightBytes - weightBytes;
  }

  drop(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#weightBytes -= entry.weightBytes;
    this.memory.release(entry);
  }
}
