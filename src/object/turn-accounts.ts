import type { Account } from "./account";
import type { AccountCache } from "./account-cache";
import type { PageChange, PageRow, PageStore } from "./page-store";

/**
 * The accounts that one turn uses, from memory or from storage. A turn that succeeds gives all of them to the cache. One that
 * fails drops all of them from it.
 */
export class TurnAccounts {
  readonly #opened = new Map<string, Account>();

  constructor(
    private readonly store: PageStore,
    private readonly cache: AccountCache,
    private readonly newAccount: (key: string, pages: Iterable<PageRow>) => Account,
  ) {}

  open(key: string): Account {
    const opened = this.#opened.get(key);
    if (opened) return opened;
    const account = this.cache.get(key) ?? this.newAccount(key, this.store.pages(key));
    this.#opened.set(key, account);
    return account;
  }

  /** Opens accounts that the turn will use. Many are read together in a third of the time; `open` reads the others. */
  openAll(keys: Iterable<string>): void {
    const unread = new Set<string>();
    for (const key of keys) {
      if (this.#opened.has(key)) continue;
      const account = this.cache.get(key);
      if (account) this.#opened.set(key, account);
      else unread.add(key);
    }
    for (const [key, pages] of this.store.pagesOf([...unread])) this.#opened.set(key, this.newAccount(key, pages));
  }

  /** The rows that store all changes of the turn. */
  takeChanges(): PageChange[] {
    return [...this.#opened.values()].flatMap((account) => account.takeChanges());
  }

  /** Ends a turn whose changes are stored. */
  keepAll(): void {
    for (const account of this.#opened.values()) this.cache.keep(account);
    this.#opened.clear();
  }

  /** Ends a turn that failed. Storage is as before and memory is not: the accounts must be opened again from storage. */
  dropAll(): void {
    for (const key of this.#opened.keys()) this.cache.drop(key);
    this.#opened.clear();
  }
}
