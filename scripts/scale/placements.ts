import { readConfig } from "../../src/config/config";
import { objectOf } from "../../src/objects/placement";
import { table } from "../../tools/document";
import { ASSUMED, cloudflareMillion, kindsOf, TRAFFIC } from "./bill";

/** The placements of the table, the recommended one last. */
const PLACEMENTS = [
  "key",
  "shards:1",
  "shards:4",
  "ip=shards:8,user=shards:4,key",
  "ip=shards:4,user=shards:4,shards:4",
];

/** Enough users and addresses for an even spread. */
const DECISIONS = 20_000;

/** A signed-in decision of the policy `chat`, by a user and an address of its own, on average over many of them. */
export function decisionOver(placementText: string) {
  const { placement } = readConfig({ LIMITER_PLACEMENT: placementText });
  const callsByObject = new Map<string, number>();
  let calls = 0;
  for (let i = 0; i < DECISIONS; i++) {
    const keys = [`user:u_${i}`, `ip:10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`];
    const objects = new Set(keys.map((key) => objectOf(key, placement)));
    calls += objects.size;
    for (const object of objects) callsByObject.set(object, (callsByObject.get(object) ?? 0) + 1);
  }
  return {
    calls: calls / DECISIONS,
    objects: callsByObject.size,
    /** The share of decisions that call the object that is called most. */
    busiest: Math.max(...callsByObject.values()) / DECISIONS,
  };
}

/** The table of docs/operations.md. */
export function placementsTable(): string {
  const rows = PLACEMENTS.map((placement) => {
    const { calls, objects, busiest } = decisionOver(placement);
    const isEach = objects === 2 * DECISIONS;
    const kind = (perVisit: number) => {
      const own = kindsOf(perVisit)["admitted, signed in"];
      // In a shard a key that comes and goes costs the row that deletes its page. The shard's table and alarm stay.
      return isEach ? own : { ...own, calls, commits: calls, visits: 0, rowsWritten: 2 + 2 / perVisit };
    };
    const usd = [Number.POSITIVE_INFINITY, TRAFFIC.perVisit].map((perVisit) =>
      cloudflareMillion(kind(perVisit)).toFixed(2),
    );
    const [least, most] = [ASSUMED.callsPerSecond[0], ASSUMED.callsPerSecond[1]].map((perSecond) =>
      Number((perSecond / busiest).toPrecision(2)).toLocaleString("en"),
    );
    return [
      `\`${placement}\``,
      isEach ? "one a key" : String(objects),
      calls.toFixed(2),
      `$${usd.join(" / $")}`,
      isEach ? "no bound in all" : `${least} to ${most}`,
      isEach ? "each new key" : "never, once warm",
    ];
  });
  return table(
    ["placement", "objects", "calls", "$ a million, steady / visits", "HTTP decisions/s", "first touch"],
    rows,
    "left",
  );
}
