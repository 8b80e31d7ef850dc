/** Requests by the name of the token that they were sent with, and requests without a valid token. */
export interface SignIns {
  readonly requests: Map<string, number>;
  failed: number;
}

/** Names come from the configuration. A bound, since totals outlive the tokens that a deploy removes. */
const MOST_NAMES = 256;
/** Counts the requests of all names beyond. */
export const OTHER_NAMES = "others";

export function noSignIns(): SignIns {
  return { requests: new Map(), failed: 0 };
}

export function countRequestsOf({ requests }: SignIns, token: string, count: number): void {
  const name = requests.has(token) || requests.size < MOST_NAMES ? token : OTHER_NAMES;
  requests.set(name, (requests.get(name) ?? 0) + count);
}

/** Code of before sends and stores none. */
export function addSignIns(sum: SignIns, more: SignIns | undefined): void {
  if (!more) return;
  for (const [token, count] of more.requests) countRequestsOf(sum, token, count);
  sum.failed += more.failed;
}

export function areNone({ requests, failed }: SignIns): boolean {
  return requests.size === 0 && failed === 0;
}

/** As stored. */
export interface StoredSignIns {
  readonly requests: readonly (readonly [token: string, count: number])[];
  readonly failed: number;
}

export function storedSignIns({ requests, failed }: SignIns): StoredSignIns {
  return { requests: [...requests], failed };
}

export function readSignIns(stored: StoredSignIns | undefined): SignIns {
  return { requests: new Map(stored?.requests), failed: stored?.failed ?? 0 };
}
