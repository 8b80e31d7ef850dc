import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, json, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

/** A call about one of two users at one address, by few keys, so that calls meet. */
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

/** Whoever asks: a pair of users of its own, and keys of its own. */
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
  // Ids that the service made are all different.
  const nameless = (value: unknown) =>
    [ip, ...users, run].reduce(
      (text, name, i) => text.replaceAll(name, `name ${i}`),
      JSON.stringify(value).replace(/"id":"[0-9a-f-]{36}"/g, '"id":"made"'),
    );
  return { call, nameless };
}

// In one object: over several, what one of them admits and puts back counts there for a moment, for the calls between too.
const service = await ServiceProcess.start(variables({ LIMITER_PLACEMENT: "shards:1" }), { args: ["--test-clock"] });
afterAll(async () => void (await service.stop()));
const caller = new Caller(targetOf(service));

async function alone({ op, idempotency_key: key, ...body }: Record<string, unknown>) {
  const response = await caller.post(`/v1/${op}`, body, key === undefined ? {} : { "Idempotency-Key": String(key) });
  return { status: response.status, body: await json<object>(response) };
}

test("a batch answers what its calls would have been answered one after the other, whatever was denied before", async () => {
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
        // Decisions that can be settled and released.
        const known = { op: "consume", user: 0, cost: 1 } as const;
        for (const { call } of [one, other])
          for (const [id, policy] of ["chat", "chat", "jobs", "jobs"].entries())
            await alone(call({ ...known, policy, id }));
        // Until they are denied; once more, because an admission makes the service for tests forget what it denied before.
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
