import { ASSUMED } from "./assumptions";
import type { Placement, Traffic } from "./traffic";

/** What one decision uses, on average over its kind. */
export interface Usage {
  readonly requests: number;
  readonly calls: number;
  readonly rowsWritten: number;
  /** How many of the calls end in a commit. */
  readonly commits: number;
  /** Keys that it wakes from idleness, and that are forgotten again. */
  readonly visits: number;
  /** Commands of a Redis in our place, and whether it writes. */
  readonly commands: number;
  readonly redisWrites: number;
  /** Decisions that reach a Redis in our place at all. */
  readonly asked: number;
}

const NOTHING: Usage = {
  requests: 0,
  calls: 0,
  rowsWritten: 0,
  commits: 0,
  visits: 0,
  commands: 0,
  redisWrites: 0,
  asked: 0,
};

/** What a decision uses that is of each kind with some share. */
function mixed(...kinds: readonly [share: number, usage: Usage][]): Usage {
  const total = { ...NOTHING };
  for (const [share, usage] of kinds)
    for (const field of Object.keys(total) as (keyof Usage)[]) total[field] += share * usage[field];
  return total;
}

const { admittedCommands, deniedCommands, checkedCommands } = ASSUMED.redis;

/** A decision about a user and an address meets one object only when both keys happen to live in the same shard. */
function callsOfTwoKeys({ shards }: Placement): number {
  return shards === undefined ? 2 : 2 - 1 / shards;
}

export function admittedSignedIn(perVisit: number, placement: Placement = {}): Usage {
  const calls = callsOfTwoKeys(placement);
  const redis = { commands: admittedCommands, redisWrites: 1, asked: 1 };
  return { requests: 1, calls, rowsWritten: 2, commits: calls, visits: 2 / perVisit, ...redis };
}

export function admittedAnonymous(perVisit: number): Usage {
  const redis = { commands: admittedCommands, redisWrites: 1, asked: 1 };
  return { requests: 1, calls: 1, rowsWritten: 1, commits: 1, visits: 1 / perVisit, ...redis };
}

/** Reserved in the other object, then put back there: two rows, and a third call. */
export function deniedByOne(perVisit: number, placement: Placement = {}): Usage {
  const apart = callsOfTwoKeys(placement) - 1;
  const redis = { commands: deniedCommands, redisWrites: 0, asked: 1 };
  return {
    requests: 1,
    calls: 1 + 2 * apart,
    rowsWritten: 2 * apart,
    commits: 2 * apart,
    visits: apart / perVisit,
    ...redis,
  };
}

export function deniedByAll(objects: number): Usage {
  return { ...NOTHING, requests: 1, calls: objects, commands: deniedCommands, asked: 1 };
}

export function checked(objects: number): Usage {
  return { ...NOTHING, requests: 1, calls: objects, commands: checkedCommands, asked: 1 };
}

interface Flood {
  readonly perSecond: number;
  readonly isolates: number;
  readonly denyCacheMs: number;
}

/** Of a flood, each isolate asks once in so many milliseconds and answers the rest by itself. */
export function flooded(perVisit: number, flood: Flood = ASSUMED.flood): Usage {
  const { perSecond, isolates, denyCacheMs } = flood;
  const asking = Math.min(1, (isolates * 1_000) / denyCacheMs / perSecond);
  return { ...mixed([asking, deniedByOne(perVisit)]), requests: 1 };
}

/** Of batches about one user at one address: a call to either object, and a row a page that the events fill. */
export function batchOfOneUser(size: number, perVisit: number): Usage {
  const pages = 1 + (size - 1) / ASSUMED.eventsAPage;
  return {
    requests: 1 / size,
    calls: 2 / size,
    rowsWritten: (2 * pages) / size,
    commits: 2 / size,
    visits: 2 / Math.max(perVisit, size),
    commands: admittedCommands - 1 + 1 / size,
    redisWrites: 1,
    asked: 1,
  };
}

/** Of batches about as many users and addresses: only the HTTP request is shared. */
export function batchOfManyUsers(size: number, perVisit: number): Usage {
  const alone = admittedSignedIn(perVisit);
  return { ...alone, requests: 1 / size, commands: alone.commands - 1 + 1 / size };
}

/** What an average decision of the traffic uses. */
export function usageOf(traffic: Traffic): Usage {
  const { signedIn, admitted, checks, atEdge, perVisit } = traffic;
  const consumed = 1 - checks;
  const denied = consumed * (1 - admitted);
  return mixed(
    [consumed * admitted * signedIn, admittedSignedIn(perVisit, traffic)],
    [consumed * admitted * (1 - signedIn), admittedAnonymous(perVisit)],
    [denied * (1 - atEdge) * signedIn, deniedByOne(perVisit, traffic)],
    [denied * (1 - atEdge) * (1 - signedIn), deniedByAll(1)],
    [denied * atEdge, { ...NOTHING, requests: 1 }],
    [checks * signedIn, checked(callsOfTwoKeys(traffic))],
    [checks * (1 - signedIn), checked(1)],
  );
}
