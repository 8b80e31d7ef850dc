import type { Chance } from "../../tools/chance";
import { Oracle } from "../../tools/oracle";
import { ServiceProcess } from "../../tools/service-process";
import { SessionCaller } from "../../tools/session";
import { HEADERS, TOKEN } from "./callers";

const LIMITS = [
  { max: 5, windowMs: 60_000 },
  { max: 40, windowMs: 3_600_000 },
];
/** The longest window, and the clock margin for which an id is held longer. */
const RETAIN_MS = 3_600_000 + 60_000;
const USERS = 8;
/** An oracle adds all of its events up for each decision, so their number is bounded. */
const MOST_EVENTS = 200;

interface Decision {
  readonly allowed: boolean;
  readonly retry_after_seconds: number | null;
  readonly limits: readonly { readonly used: number; readonly reset_seconds: number }[];
}

/**
 * Runs a second service on a clock that moves in steps from a millisecond to an hour, and compares each decision, wait and
 * count with an oracle. Asks over HTTP and over a session, by turns. Runs until `isOver`.
 * @returns how many decisions were compared, and the first mistakes
 */
export async function soakClock(
  chance: Chance,
  isOver: () => boolean,
): Promise<{ decisions: number; mistakes: string[] }> {
  const policy = { layers: [{ name: "caller", by: ["user"], limits: ["5/minute", "40/hour"] }] };
  const variables = { LIMITER_ADMIN_TOKENS: TOKEN, RATE_LIMIT_POLICIES: JSON.stringify({ steps: policy }) };
  const service = await ServiceProcess.start(variables, { args: ["--test-clock"] });
  const post = async <T>(path: string, body: unknown): Promise<T> => {
    const response = await service.fetch(path, { method: "POST", headers: HEADERS, body: JSON.stringify(body) });
    return (await response.json()) as T;
  };
  const session = new SessionCaller(() => service.url, TOKEN);
  const overSession = async (request: unknown) => {
    const [result] = (await session.ask([request])) ?? [];
    return (result?.body ?? {}) as Partial<Decision>;
  };
  const oracles = new Map<string, Oracle>();
  const mistakes: string[] = [];
  let decisions = 0;
  let nowMs = Date.parse((await post<{ now: string }>("/test/clock", { advance_seconds: 0 })).now);
  while (!isOver()) {
    if (chance.is(0.3)) {
      const ms = chance.of([1, 999, 1_000, chance.below(60_000), 60_000, chance.below(3_600_000), 3_600_000]);
      nowMs = Date.parse((await post<{ now: string }>("/test/clock", { advance_seconds: ms / 1_000 })).now);
    }
    const user = `u${chance.below(USERS)}`;
    const cost = 1 + chance.below(3);
    const oracle = oracles.get(user) ?? new Oracle();
    oracles.set(user, oracle);
    const fits = LIMITS.every((limit) => oracle.fits(cost, nowMs, limit));
    const waitMs = Math.max(...LIMITS.map((limit) => oracle.standing(limit, cost, nowMs).fitsInMs));
    const request = { policy: "steps", subject: { user }, cost };
    const decision = chance.is(0.5)
      ? await overSession({ op: "consume", ...request })
      : await post<Decision>("/v1/consume", request);
    if (fits) oracle.record(nowMs, cost, RETAIN_MS);
    const expected = {
      allowed: fits,
      wait: fits ? null : Math.max(1, Math.ceil(waitMs / 1_000)),
      limits: LIMITS.map((limit) => {
        const { used, resetsInMs } = oracle.standing(limit, cost, nowMs);
        return [used, Math.ceil(resetsInMs / 1_000)];
      }),
    };
    const { allowed, retry_after_seconds: wait, limits } = decision;
    const actual = { allowed, wait, limits: limits?.map((limit) => [limit.used, limit.reset_seconds]) };
    if (JSON.stringify(actual) !== JSON.stringify(expected) && mistakes.length < 20)
      mistakes.push(`at ${nowMs} ${user} got ${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`);
    decisions++;
    if (oracle.events.length > MOST_EVENTS) oracle.events = oracle.keptAt(nowMs);
  }
  await service.stop();
  return { decisions, mistakes };
}
