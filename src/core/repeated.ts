/** A list of numbers that are mostly the same: one number in memory while all are. Its owner knows its size. */
export class Repeated {
  #common = 0;
  #each: number[] | undefined;

  /** About how many bytes of memory a number takes. */
  get bytesEach(): number {
    return this.#each ? 10 : 0;
  }

  at(i: number): number {
    return this.#each ? (this.#each[i] as number) : this.#common;
  }

  insert(i: number, value: number, size: number): void {
    if (size === 0) {
      this.#common = value;
      this.#each = undefined;
    }
    if (!this.#each && value === this.#common) return;
    this.#each ??= new Array<number>(size).fill(this.#common);
    this.#each.splice(i, 0, value);
  }

  remove(i: number): void {
    this.#each?.splice(i, 1);
  }

  dropFirst(count: number): void {
    this.#each?.splice(0, count);
  }
}
