import type { IRequest } from "itty-router";
import * as z from "zod";
import { AUDIT_NAME } from "../audit/audit";
import { STATS_NAMES } from "../counting/stats-objects";
import type { Route } from "../http/app";
import { readJson } from "../http/body";
import { json } from "../http/reply";
import { invalid, readBySchema } from "../request/refusal";
import { type Env, serviceOf } from "../service";
import { clock, type TestAuditObject, type TestStatsObject } from "./object";
import type { TrackedObjects } from "./objects";

/** The environment of the Worker with a clock for tests. */
export interface TestEnv extends Env {
  readonly LIMITER_OBJECTS: TrackedObjects;
  readonly LIMITER_STATS: DurableObjectNamespace<TestStatsObject>;
  readonly LIMITER_AUDIT: DurableObjectNamespace<TestAuditObject>;
}

/** Further calls of a service for tests. They need no token: there is nothing to guard. */
export const TEST_ROUTES: readonly Route<TestEnv>[] = [
  ["get", "/test/clock", () => json(timeNow())],
  ["post", "/test/clock", moveClock],
  ["post", "/test/reset", reset],
];

const LATEST_MS = Date.UTC(9999, 0);

const move = z
  .strictObject({
    advance_seconds: z.number("must be a number").min(0, "must be at least 0").optional(),
    now: z.iso.datetime({ offset: true, error: "must be an instant, like 2030-01-01T00:00:00Z" }).optional(),
  })
  .refine(
    ({ advance_seconds, now }) => (advance_seconds === undefined) !== (now === undefined),
    'send either {"advance_seconds": 60} or {"now": "2030-01-01T00:00:00Z"}',
  );

async function moveClock(request: IRequest): Promise<Response> {
  const { advance_seconds: seconds = 0, now } = readBySchema(move, await readJson(request));
  const ms = now === undefined ? clock.nowMs + Math.round(seconds * 1_000) : Date.parse(now);
  const field = now === undefined ? "/advance_seconds" : "/now";
  if (!(ms <= LATEST_MS)) throw invalid([{ pointer: field, detail: "must be before the year 9999" }]);
  if (!clock.moveTo(ms))
    throw invalid([
      {
        pointer: field,
        detail: "must not be before the latest decision, since time never goes back: reset first",
      },
    ]);
  return json(timeNow());
}

async function reset(_: IRequest, env: TestEnv): Promise<Response> {
  await env.LIMITER_OBJECTS.reset();
  serviceOf(env).counts?.clear();
  await Promise.all(STATS_NAMES.map((name) => env.LIMITER_STATS.getByName(name).reset()));
  await env.LIMITER_AUDIT.getByName(AUDIT_NAME).reset();
  clock.reset();
  return new Response(null, { status: 204 });
}

function timeNow(): { now: string } {
  return { now: new Date(clock.nowMs).toISOString() };
}
