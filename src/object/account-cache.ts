import type { Account } from "./account";

/** An isolate has 128 MB, which several objects may share. */
const MEMORY_BYTES = 32 * 1_048_576;

/** Accounts in memory: beyond a bound only the ones used last. */
export class AccountCache {
  /** In the order of use, the latest last. */
  readonly #accounts = new Map<string, { account: Account; weight: number }>();
  #weight = 0;

  constructor(private readonly mostBytes = MEMORY_BYTES) {}

  /** About how many bytes the accounts take. */
  get weight(): number {
    return this.#weight;
  }

  get(key: string): Account | undefined {
    return this.#accounts.get(key)?.account;
  }

  /** Holds the account, which was used just now, unless it is empty. It stays, however much it weighs. */
  keep(account: Account): void {
    this.drop(account.key);
    if (account.isEmpty) return;
    const weight = account.weight;
    this.#accounts.set(account.key, { account, weight });
    this.#weight += weight;
    for (const key of this.#accounts.keys()) {
      if (this.#weight <= this.mostBytes || key === account.key) break;
      this.drop(key);
    }
  }

  drop(key: string): void {
    this.#weight -= this.#accounts.get(key)?.weight ?? 0;
    this.#accounts.delete(key);
  }
}
