import type { Counts } from "../counting/counts";
import { OUTCOMES, type Tallies } from "../counting/tally";
import { DEFAULT_MINUTES, MOST_LISTED_KEYS, MOST_MINUTES, type Stats } from "../request/admin-schema";
import type { Service } from "../service";
import { Problem } from "./problem";
import { numberIn, readQuery } from "./query";

/** The counts of the minutes that the query asks for. @throws Problem, Refusal `invalid` or `unreachable` */
export async function stats({ url }: Request, { counts }: Pick<Service, "counts">): Promise<Stats> {
  const query = readQuery(url, { minutes: numberIn({ least: 1, most: MOST_MINUTES }).default(DEFAULT_MINUTES) });
  const { minutes, deniedKeys, errorAtMost, signIns } = await countsOf(counts).recent(query.minutes);
  return {
    minutes: minutes.map(({ atMs, tallies }) => ({ at: new Date(atMs).toISOString(), counts: entriesOf(tallies) })),
    // The busiest first: objects and isolates give them in any order.
    requests: [...(signIns?.requests ?? [])]
      .map(([token, count]) => ({ token, count }))
      .sort((a, b) => b.count - a.count || (a.token < b.token ? -1 : 1)),
    failed_sign_ins: signIns?.failed ?? 0,
    denied_keys: deniedKeys.slice(0, MOST_LISTED_KEYS).map(({ item, count, error }) => {
      const [policy = "", layer = "", key = ""] = item.split("\n");
      return { key, policy, layer, count, error };
    }),
    // A key that is counted but not listed was denied at most as often as the first of those.
    error_at_most: Math.max(errorAtMost, deniedKeys[MOST_LISTED_KEYS]?.count ?? 0),
  };
}

/** @throws Problem 404 if the service does not count, or nowhere where it can read. */
export function countsOf(counts: Counts | undefined): Counts {
  if (!counts)
    throw new Problem(404, "Not Found", "Nothing is counted. LIMITER_STATS is not bound, or LIMITER_COUNTS=off.");
  if (counts.isReadable) return counts;
  throw new Problem(
    404,
    "Not Found",
    "Counts go to Analytics Engine alone, as LIMITER_COUNTS says. Ask for them there.",
  );
}

function entriesOf(tallies: Tallies): Stats["minutes"][number]["counts"] {
  return [...tallies.keys()].sort().flatMap((name) => {
    const [policy = "", layer = null] = name.split("/");
    const tally = tallies.get(name) ?? {};
    return OUTCOMES.flatMap((outcome) => (tally[outcome] ? [{ policy, layer, outcome, count: tally[outcome] }] : []));
  });
}
