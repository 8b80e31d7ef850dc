import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, json, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

/** A call of one of two users with the same address and few idempotency keys, so that calls meet. */
interface Step {
  readonly op: "consume" | "check" | "settle" | "release";
  readonly policy: string;
  readonly user: number;
  readonly id: number | undefined;
  readonly cost: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom("consume", "consume", "consume", "check", "settle", "settle", "release"),
  policy: fc.constantFrom("chat", "chat", "jobs"),
  user: fc.nat({ max: 1 }),
  id: fc.option(fc.nat({ max: 3 }), { nil: undefined, freq: 1 }),
  cost: fc.integer({ min: 1, max: 2 }),
});

/** A pair of users with keys of their own. */
function newCrowd() {
  const { ip } = newSubject();
  const users = [newSubject().user, newSubject().user];
  const run = crypto.randomUUID();
  const call = ({ op, policy, user, id, cost }: Step): Record<string, unknown> => ({
    op,
    policy,
    subject: { user: users[user], ip },
    ...(op !== "release" && { cost: op === "settle" ? cost - 1 : cost }),
    ...(op === "consume" && id !== undefined && { idempotency_key: `${run}-${id}` }),
    ...((op === "settle" || op === "release") && { id: `${run}-${id ?? 0}` }),
  });
  // Ids that the service made differ.
  const nameless = (value: unknown) =>
    [ip, ...users, run].reduce(
      (text, name, i) => text.replaceAll(name, `name ${i}`),
      JSON.stringify(value).replace(/"id":"[0-9a-f-]{36}"/g, '"id":"made"'),
    );
  return { call, nameless };
}

// In one object: over several, a charge that is rolled back counts in its object for a moment, for single calls too.
const service = await ServiceProcess.start(variables({ LIMITER_PLACEMENT: "shards:1" }), { args: ["--test-clock"] });
afterAll(async () => void (await service.stop()));
const caller = new Caller(targetOf(service));

async function alone({ op, idempotency_key: key, ...body }: Record<string, unknown>) {
  const response = await caller.post(`/v1/${op}`, body, key === undefined ? {} : { "Idempotency-Key": String(key) });
  return { status: response.status, body: await json<object>(response) };
}

test("a batch answers as if its calls were made one after the other, whatever was denied before", async () => {
  const history = fc.array(step, { maxLength: 8 });
  const laterSeconds = fc.constantFrom(0, 0, 1, 30);
  await fc.assert(
    fc.asyncProperty(
      history,
      laterSeconds,
      fc.array(step, { minLength: 2, maxLength: 6 }),
      async (before, later, steps) => {
        const [one, other] = [newCrowd(), newCrowd()];
        for (const step of before) for (const { call } of [one, other]) await alone(call(step));
        // Decisions to settle and release.
        const base = { op: "consume", user: 0, cost: 1 } as const;
        for (const { call } of [one, other])
          for (const [id, policy] of ["chat", "chat", "jobs", "jobs"].entries())
            await alone(call({ ...base, policy, id }));
        // Until they are denied, and once more: an admission clears the denial cache of the service for tests.
        const denied = { op: "consume", policy: "chat", user: 0, id: undefined, cost: 1 } as const;
        for (const { call } of [one, other]) while ((await alone(call(denied))).status !== 429);
        for (const { call } of [one, other]) expect((await alone(call(denied))).status).toBe(429);
        if (later > 0) await caller.post("/test/clock", { advance_seconds: later });
        const response = await caller.post("/v1/batch", { requests: steps.map(other.call) });
        const { results } = await json<{ results: object[] }>(response);
        const singly = [];
        for (const step of steps) singly.push(await alone(one.call(step)));
        expect(other.nameless(results)).toEqual(one.nameless(singly));
      },
    ),
    { numRuns: 200 },
  );
});
