/** Throws if a caller breaks a requirement of a function. A fault in the code must be reported, not counted wrongly. */
export function assert(condition: boolean, requirement: string): asserts condition {
  if (!condition) throw new Error(`broken requirement: ${requirement}`);
}
