import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { vi } from "vitest";
import type { AuditObject } from "../../src/audit/audit-object";
import type { StatsObject } from "../../src/counting/stats-object";
import { appOf } from "../../src/http/app";
import { ROUTES } from "../../src/http/routes";
import { decodeResults, encodeCalls } from "../../src/object/message";
import type { LimiterObject } from "../../src/object/object";
import type { Call, CallResult, Method, QuestionOf, VerdictOf } from "../../src/object/protocol";
import type { Target } from "../behaviour/target";

/** The bindings of the test runtime. */
export interface Bindings {
  readonly LIMITER_OBJECTS: DurableObjectNamespace<LimiterObject>;
  readonly LIMITER_STATS: DurableObjectNamespace<StatsObject>;
  readonly LIMITER_AUDIT: DurableObjectNamespace<AuditObject>;
}

/** The verdict of an object on one call. */
export async function ask<M extends Method>(
  object: Pick<DurableObjectStub<LimiterObject>, "decide">,
  method: M,
  question: QuestionOf<M>,
): Promise<VerdictOf<M>> {
  const calls = [{ method, question } as Call];
  const [result] = decodeResults(await object.decide(encodeCalls(calls)), calls) as CallResult<VerdictOf<M>>[];
  if (result && "verdict" in result) return result.verdict;
  throw new Error(result?.error);
}

const handle = appOf(ROUTES);

/**
 * The service on the test runtime, with variables of its own. It does not count unless a variable binds the stats object:
 * every response here waits for its `waitUntil` work, and counts are sent seconds later.
 */
export function workerTarget(variables: Record<string, unknown> = {}): Target & { readonly env: Bindings } {
  const environment = {
    ...(env as unknown as Bindings),
    LIMITER_STATS: undefined,
    ...variables,
  } as unknown as Bindings;
  return {
    env: environment,
    callerToken: "caller-token",
    adminToken: "admin-token",
    async fetch(path, init) {
      const request = new Request(`https://limiter.test${path}`, init as RequestInit<RequestInitCfProperties>);
      const context = createExecutionContext();
      const response = await handle(request, environment, context);
      await waitOnExecutionContext(context);
      return response;
    },
  };
}

/**
 * The same target on a clock that only `advance` moves, for objects and Worker together. It starts in the future, since
 * alarms use the real clock and must not ring by themselves.
 */
export function withClock<T extends Target>(target: T): T & Required<Pick<Target, "advance">> {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.UTC(2040, 0, 1) });
  return { ...target, advance: (ms) => void vi.setSystemTime(Date.now() + ms) };
}
