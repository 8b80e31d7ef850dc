import type { BoundNamespace, BoundObject, ObjectOptions } from "../objects/binding";
import type { TestClockObject } from "./object";

/** A namespace that tracks which objects were called, so that all of them can be reset. */
export class TrackedObjects implements BoundNamespace {
  readonly #names = new Set<string>();

  constructor(private readonly objects: DurableObjectNamespace<TestClockObject>) {}

  getByName(name: string, where: ObjectOptions): BoundObject {
    this.#names.add(name);
    return this.objects.getByName(name, where);
  }

  async reset(): Promise<void> {
    const names = [...this.#names];
    this.#names.clear();
    await Promise.all(names.map((name) => this.objects.getByName(name).reset()));
  }
}
