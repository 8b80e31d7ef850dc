/** From just before a kill until the service served again. */
export interface Kill {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * Counts the second events of ids in a counter. A kill between two events may have torn the id over several objects, which
 * gives it a second one (docs/guarantees.md). Without a kill the id was charged twice.
 * @param events newest first
 */
export function secondEvents(
  events: readonly { readonly id: string; readonly at: string }[],
  kills: readonly Kill[],
): { torn: number; twice: number } {
  const nextAtMs = new Map<string, number>();
  let torn = 0;
  let twice = 0;
  for (const { id, at } of events) {
    const atMs = Date.parse(at);
    const next = nextAtMs.get(id);
    nextAtMs.set(id, atMs);
    if (next === undefined) continue;
    if (kills.some(({ fromMs, toMs }) => atMs <= toMs && next >= fromMs)) torn++;
    else twice++;
  }
  return { torn, twice };
}
