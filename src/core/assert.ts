/** Throws if a caller breaks what a function requires. A fault in the code is better reported than counted wrongly. */
export function assert(condition: boolean, requirement: string): asserts condition {
  if (!condition) throw new Error(`broken requirement: ${requirement}`);
}
