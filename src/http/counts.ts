import * as z from "zod";
import { OUTCOMES, type Tallies } from "../core/tally";
import { DEFAULT_MINUTES, MOST_MINUTES, MOST_TOLD_KEYS, type Stats } from "../edge/admin-schema";
import type { Counts } from "../edge/counts";
import { parsed } from "../edge/refusal";
import type { Service } from "../edge/service";
import { Problem } from "./problem";

const message = `must be a whole number from 1 to ${MOST_MINUTES}`;
const query = z.strictObject({
  minutes: z
    .string(message)
    .regex(/^\d{1,4}$/, message)
    .transform(Number)
    .refine((minutes) => minutes >= 1 && minutes <= MOST_MINUTES, message)
    .default(DEFAULT_MINUTES),
});

/** What was counted in the minutes that the query asks for. @throws Problem, Refusal `invalid` or `unreachable` */
export async function stats({ url }: Request, { counts }: Pick<Service, "counts">): Promise<Stats> {
  const asked = parsed(query, queryOf(url));
  const { minutes, deniedKeys, errorAtMost } = await countsOf(counts).recent(asked.minutes);
  return {
    minutes: minutes.map(({ atMs, tallies }) => ({ at: new Date(atMs).toISOString(), counts: entriesOf(tallies) })),
    denied_keys: deniedKeys.slice(0, MOST_TOLD_KEYS).map(({ item, count, error }) => {
      const [policy = "", layer = "", key = ""] = item.split("\n");
      return { key, policy, layer, count, error };
    }),
    error_at_most: errorAtMost,
  };
}

/** @throws Problem where nothing is counted. */
export function countsOf(counts: Counts | undefined): Counts {
  if (counts) return counts;
  throw new Problem(404, "Not Found", "Nothing is counted: the service has no binding LIMITER_STATS.");
}

function entriesOf(tallies: Tallies): Stats["minutes"][number]["counts"] {
  return [...tallies.keys()].sort().flatMap((name) => {
    const [policy = "", layer = null] = name.split("/");
    const tally = tallies.get(name) ?? {};
    return OUTCOMES.flatMap((outcome) => (tally[outcome] ? [{ policy, layer, outcome, count: tally[outcome] }] : []));
  });
}

/** A parameter that stands more than once is none of those that are allowed. */
function queryOf(url: string): Record<string, unknown> {
  const { searchParams } = new URL(url);
  return Object.fromEntries(
    [...searchParams.keys()].map((name) => {
      const values = searchParams.getAll(name);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}
