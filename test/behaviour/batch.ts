import { describe, expect, test } from "vitest";
import { Caller, type DecisionBody, json, newSubject, type ProblemBody, type Target } from "./target";

interface Result<Body> {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body: Body;
}

/** Many calls in one request. */
export function batchSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const send = (requests: unknown, more: object = {}) => caller.post("/v1/batch", { requests, ...more });
  async function results<Body = DecisionBody>(requests: unknown[], more: object = {}): Promise<Result<Body>[]> {
    const response = await send(requests, more);
    expect(response.status).toBe(200);
    return (await json<{ results: Result<Body>[] }>(response)).results;
  }
  const consume = (subject: object, more: object = {}) => ({ op: "consume", policy: "chat", subject, ...more });

  describe(`${name}: batches`, () => {
    test("decide calls of one object in order, and answer in the order of the requests", async () => {
      const subject = newSubject();
      const answers = await results([
        ...Array.from({ length: 6 }, () => consume(subject)),
        { op: "check", policy: "chat", subject },
        consume(newSubject()),
      ]);
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 429, 200, 200]);
      expect(answers.map(({ body }) => body.limits[0]?.used)).toEqual([1, 2, 3, 4, 5, 5, 5, 1]);
      expect(answers[6]?.body).toMatchObject({ allowed: false, retry_after_seconds: 60 });
    });

    test("answer each call like the single call, with headers if the batch asks for them", async () => {
      const [one, other] = [newSubject(), newSubject()];
      const calls = (subject: object) =>
        [
          ["/v1/consume", { policy: "chat", subject, cost: 5 }, "consume"],
          ["/v1/check", { policy: "chat", subject }, "check"],
          ["/v1/consume", { policy: "chat", subject }, "consume"],
          ["/v1/settle", { policy: "chat", subject, id: "unknown", cost: 1 }, "settle"],
          ["/v1/consume", { policy: "nope", subject }, "consume"],
          ["/v1/consume", { policy: "chat", subject: { user: "u" } }, "consume"],
          ["/v1/consume", { policy: "chat", subject, cost: 6 }, "consume"],
        ] as const;
      const batched = await results<Record<string, unknown>>(
        calls(one).map(([, body, op]) => ({ op, ...body })),
        { headers: true },
      );
      const nameless = (value: unknown, subject: ReturnType<typeof newSubject>) =>
        JSON.parse(
          JSON.stringify(value)
            .replaceAll(subject.user, "USER")
            .replaceAll(subject.ip, "IP")
            .replace(/"id":"[^"]+"/, '"id":"ID"'),
        );
      for (const [i, [path, body]] of calls(other).entries()) {
        const response = await caller.post(path, body);
        const headers = ["RateLimit", "RateLimit-Policy", "Retry-After"].flatMap((name) => {
          const value = response.headers.get(name);
          return value === null ? [] : [[name, value]];
        });
        expect(nameless(batched[i], one)).toEqual(
          nameless(
            { status: response.status, headers: Object.fromEntries(headers), body: await json(response) },
            other,
          ),
        );
      }
      expect((await results([consume(newSubject())]))[0]).not.toHaveProperty("headers");
    });

    test("settle what they consumed, charge an idempotency key once, and charge nothing for a denial", async () => {
      const subject = newSubject();
      const answers = await results([
        consume(subject, { idempotency_key: "one", cost: 4 }),
        consume(subject, { idempotency_key: "one", cost: 4 }),
        consume(subject, { cost: 2 }),
        { op: "settle", policy: "chat", subject, id: "one", cost: 1 },
        consume(subject, { cost: 4 }),
        consume(subject),
      ]);
      expect(answers.map(({ status, body }) => [status, body.replayed])).toEqual([
        [200, false],
        [200, true],
        [429, false],
        [200, undefined],
        [200, false],
        [429, false],
      ]);
      expect(await caller.used("chat", subject)).toEqual([5, 5, 5]);
      const again = await results([consume(subject, { idempotency_key: "one", cost: 4 })]);
      expect(again[0]).toMatchObject({ status: 200, body: { allowed: true, replayed: true } });
    });

    test("report every mistake of a call in its own result, and decide the other calls", async () => {
      const subject = newSubject();
      const answers = await results<ProblemBody>([
        { op: "delete", policy: "chat", subject },
        consume(subject),
        "nonsense",
        null,
        [],
        consume({ ...subject, ip: "nowhere" }, { cost: 1.5, more: 1, idempotency_key: "a b" }),
        { policy: "chat", subject },
        consume(subject),
      ]);
      expect(answers.map(({ status }) => status)).toEqual([400, 200, 400, 400, 400, 400, 400, 200]);
      expect(answers[0]?.body.errors?.map(({ pointer }) => pointer)).toEqual(["/op"]);
      expect(answers[5]?.body.errors?.map(({ pointer }) => pointer).sort()).toEqual([
        "/cost",
        "/idempotency_key",
        "/more",
        "/subject/ip",
      ]);
      expect(await caller.used("chat", subject)).toEqual([2, 2, 2]);
    });

    test("take 1 to 100 requests", async () => {
      const subject = newSubject();
      const check = { op: "check", policy: "chat", subject };
      expect(await results(Array.from({ length: 100 }, () => check))).toHaveLength(100);
      for (const requests of [[], Array.from({ length: 101 }, () => check), undefined, {}, "all"]) {
        const response = await send(requests);
        expect([response.status, (await json<ProblemBody>(response)).errors]).toMatchObject([
          400,
          [{ pointer: "/requests" }],
        ]);
      }
      expect((await send([check], { headers: "yes" })).status).toBe(400);
      expect((await send([check], { more: 1 })).status).toBe(400);
    });

    test("leave `limits` out of all bodies if the batch asks for that, and change nothing else", async () => {
      const subjects = [newSubject(), newSubject()];
      const [without, withLimits] = await Promise.all(
        subjects.map((subject, i) => {
          const id = "8e03978e-40d5-43dd-bc93-6894a57f9324";
          const about = { policy: "chat", subject };
          const requests = [
            { op: "consume", ...about, cost: 5, idempotency_key: id },
            { op: "consume", ...about },
            { op: "check", ...about },
            { op: "settle", ...about, id, cost: 1 },
            { op: "release", ...about, id },
            { op: "settle", ...about, id: "unknown", cost: 1 },
          ];
          return results<Record<string, unknown>>(requests, { headers: true, limits: i > 0 });
        }),
      );
      const shapeOf = ({ status, headers, body }: NonNullable<typeof without>[number]) => ({
        status,
        headers: Object.keys(headers ?? {}),
        body: Object.keys(body).filter((field) => field !== "limits"),
      });
      expect(without?.map(({ body }) => "limits" in body)).toEqual(Array(6).fill(false));
      expect(withLimits?.map(({ body }) => "limits" in body)).toEqual([true, true, true, true, true, false]);
      expect(without?.map(shapeOf)).toEqual(withLimits?.map(shapeOf));
      expect((await send([], { limits: "no" })).status).toBe(400);
    });

    test("take at most 64 KiB", async () => {
      const body = JSON.stringify({ requests: [consume(newSubject())] });
      const padded = (bytes: number) => body + " ".repeat(bytes - body.length);
      expect((await caller.post("/v1/batch", padded(65_536))).status).toBe(200);
      expect((await caller.post("/v1/batch", padded(65_537))).status).toBe(413);
    });
  });
}
