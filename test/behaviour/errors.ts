import { describe, expect, test } from "vitest";
import { Caller, json, newSubject, type ProblemBody, type Target } from "./target";

/** Refusals with their statuses. A refused request is never counted. */
export function errorSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const subject = { user: "u_errors", ip: "203.0.113.99" };
  const valid = { policy: "chat", subject };
  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

  async function expectProblem(response: Response, status: number): Promise<ProblemBody> {
    expect([response.status, response.headers.get("Content-Type")]).toEqual([status, "application/problem+json"]);
    const body = await json<ProblemBody>(response);
    expect(body).toMatchObject({
      type: expect.any(String),
      title: expect.any(String),
      status,
      detail: expect.any(String),
    });
    return body;
  }

  describe(`${name}: refusals`, () => {
    test.each([
      ["not JSON", "{", []],
      ["nothing", "", []],
      ["not an object", "[]", [""]],
      ["null", "null", [""]],
      ["a missing policy", { subject }, ["/policy"]],
      ["a missing subject", { policy: "chat" }, ["/subject"]],
      ["an ill-typed policy", { policy: 5, subject }, ["/policy"]],
      ["an ill-typed subject", { policy: "chat", subject: "u_1" }, ["/subject"]],
      ["a list for a subject", { policy: "chat", subject: [] }, ["/subject"]],
      ["an ill-typed attribute", { policy: "chat", subject: { ...subject, user: 5 } }, ["/subject/user"]],
      [
        "an ill-typed attribute that no layer counts by",
        { policy: "chat", subject: { ...subject, plan: 5 } },
        ["/subject/plan"],
      ],
      ["an unknown field", { ...valid, key: "x" }, ["/key"]],
      ["unknown fields whose names need escaping", { ...valid, "a/b": 1, "c~d": 2 }, ["/a~1b", "/c~0d"]],
      ["a cost of 0", { ...valid, cost: 0 }, ["/cost"]],
      ["a negative cost", { ...valid, cost: -1 }, ["/cost"]],
      ["an object for a policy", { policy: { toString: 1 }, subject }, ["/policy"]],
      [
        "one attribute ill-typed and another invalid",
        { policy: "chat", cost: 0.5, subject: { user: 7, ip: "1.1.1" } },
        ["/cost", "/subject/ip", "/subject/user"],
      ],
      ["half a cost", { ...valid, cost: 1.5 }, ["/cost"]],
      ["a cost as text", { ...valid, cost: "1" }, ["/cost"]],
      ["a cost of null", { ...valid, cost: null }, ["/cost"]],
      ["a cost that overflows", `{"policy":"chat","subject":{"ip":"1.2.3.4"},"cost":1e999}`, ["/cost"]],
      [
        "a user with a control character",
        { policy: "chat", subject: { ...subject, user: "a\u0000b" } },
        ["/subject/user"],
      ],
      [
        "a user that is half a surrogate pair",
        `{"policy":"chat","subject":{"user":"\\ud800","ip":"1.2.3.4"}}`,
        ["/subject/user"],
      ],
      [
        "a user of 257 bytes",
        { policy: "chat", subject: { ...subject, user: `${"é".repeat(128)}x` } },
        ["/subject/user"],
      ],
      [
        "every mistake at once",
        { cost: 0, subject: { user: 1, ip: 2 }, more: 1 },
        ["/policy", "/subject/user", "/subject/ip", "/cost", "/more"],
      ],
      [
        "mistakes of form and of meaning at once",
        { policy: "chat", cost: 0, subject: { user: "\u0007", ip: "1.2" } },
        ["/cost", "/subject/user", "/subject/ip"],
      ],
    ])("%s is a 400 that points at each mistake", async (_, body, pointers) => {
      for (const path of ["/v1/consume", "/v1/check"]) {
        const { errors = [] } = await expectProblem(await caller.post(path, body), 400);
        expect(errors.map(({ pointer }) => pointer).sort()).toEqual([...pointers].sort());
      }
    });

    test.each([
      "1.2.3",
      "127.1",
      "1.2.3.256",
      "01.2.3.4",
      "0x7f.0.0.1",
      "1.2.3.4:80",
      "1.2.3.4/24",
      "1.2.3.4, 5.6.7.8",
      "[::1]",
      "[::1]:80",
      "fe80::1%eth0",
      "2001:db8::/64",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7::8",
      "12345::",
      "::ffff:1.2.3",
      "::ffff:01.2.3.4",
      "localhost",
      "1２.2.3.4",
    ])("the address %j is a 400", async (ip) => {
      const response = await caller.post("/v1/consume", { policy: "chat", subject: { user: "u", ip } });
      expect((await expectProblem(response, 400)).errors?.map(({ pointer }) => pointer)).toEqual(["/subject/ip"]);
    });

    test("bytes that are not UTF-8 are a 400", async () => {
      const body = new Uint8Array([
        ...new TextEncoder().encode('{"policy":"'),
        0xff,
        ...new TextEncoder().encode('"}'),
      ]);
      const headers = { ...bearer(target.callerToken), "Content-Type": "application/json" };
      await expectProblem(await target.fetch("/v1/check", { method: "POST", headers, body }), 400);
    });

    test.each(["nope", "", "Chat", "__proto__", "constructor", "chat "])(
      "the unknown policy %j is a 404 that points at it",
      async (policy) => {
        const { errors } = await expectProblem(await caller.post("/v1/consume", { policy, subject }), 404);
        expect(errors?.map(({ pointer }) => pointer)).toEqual(["/policy"]);
      },
    );

    test("a cost equal to the smallest limit is decided, a higher cost is a 422", async () => {
      const free = newSubject();
      expect((await caller.post("/v1/consume", { policy: "chat", subject: free, cost: 5 })).status).toBe(200);
      for (const cost of [6, 2_000_000, 2 ** 60])
        for (const path of ["/v1/consume", "/v1/check"]) {
          const response = await caller.post(path, { policy: "chat", subject: free, cost });
          await expectProblem(response, 422);
          expect(response.headers.has("Retry-After")).toBe(false);
        }
    });

    test.each([undefined, "text/plain", "application/jsonx", "application/problem+json", "multipart/form-data"])(
      "a body of type %s is a 415",
      async (type) => {
        const headers = { ...bearer(target.callerToken), ...(type && { "Content-Type": type }) };
        // As bytes: for text, fetch would set a Content-Type.
        const body = new TextEncoder().encode(JSON.stringify(valid));
        await expectProblem(await target.fetch("/v1/consume", { method: "POST", headers, body }), 415);
      },
    );

    test.each([
      "application/json; charset=utf-8",
      "Application/JSON",
      "application/json;charset=UTF-8",
      "application/json\t; x=y",
    ])("a body of type %s is read", async (type) => {
      expect((await caller.post("/v1/check", valid, { "Content-Type": type })).status).toBe(200);
    });

    test("a body of 8 KiB is read, one byte more is a 413", async () => {
      const padded = (bytes: number) => {
        const text = JSON.stringify(valid);
        return text + " ".repeat(bytes - text.length);
      };
      expect((await caller.post("/v1/check", padded(8_192))).status).toBe(200);
      await expectProblem(await caller.post("/v1/check", padded(8_193)), 413);
    });

    test("a body whose length was not announced is read up to 8 KiB too", async () => {
      const post = (text: string) => {
        const body = new ReadableStream({
          start(controller) {
            for (let i = 0; i < text.length; i += 1_000)
              controller.enqueue(new TextEncoder().encode(text.slice(i, i + 1_000)));
            controller.close();
          },
        });
        const headers = { ...bearer(target.callerToken), "Content-Type": "application/json" };
        return target.fetch("/v1/check", { method: "POST", headers, body, duplex: "half" } as RequestInit);
      };
      const text = JSON.stringify(valid);
      expect((await post(text.padEnd(8_192))).status).toBe(200);
      await expectProblem(await post(text.padEnd(8_193)), 413);
    });

    test("a refused request is not counted", async () => {
      const fresh = newSubject();
      for (const body of [
        { policy: "chat", subject: fresh, cost: 0 },
        { policy: "chat", subject: fresh, cost: 6 },
        { policy: "nope", subject: fresh },
        { policy: "chat", subject: fresh, x: 1 },
      ])
        expect((await caller.post("/v1/consume", body)).status).toBeGreaterThanOrEqual(400);
      expect(await caller.used("chat", fresh)).toEqual([0, 0, 0]);
    });
  });

  describe(`${name}: tokens`, () => {
    test.each([
      ["no token", {}],
      ["an empty one", { Authorization: "Bearer " }],
      ["a wrong one", bearer("wrong")],
      ["a longer one", bearer(`${target.callerToken}x`)],
      ["a shorter one", bearer(target.callerToken.slice(0, -1))],
      ["two of them", bearer(`${target.callerToken}, ${target.adminToken}`)],
      ["another scheme", { Authorization: `Basic ${target.callerToken}` }],
      ["the token alone", { Authorization: target.callerToken }],
    ])("with %s every call is a 401", async (_, headers: Record<string, string>) => {
      for (const [method, path] of [
        ["POST", "/v1/consume"],
        ["POST", "/v1/check"],
        ["GET", "/v1/policies"],
        ["GET", "/v1/keys/user:u"],
        ["DELETE", "/v1/keys/user:u"],
      ] as const) {
        const response = await target.fetch(path, { method, headers });
        await expectProblem(response, 401);
        expect(response.headers.get("WWW-Authenticate")).toBe("Bearer");
      }
    });

    test("a missing token and a wrong token have different messages", async () => {
      const detailWith = async (headers: Record<string, string>) =>
        (await expectProblem(await target.fetch("/v1/policies", { headers }), 401)).detail;
      for (const headers of [{}, { Authorization: "Bearer " }, { Authorization: `Basic ${target.callerToken}` }])
        expect(await detailWith(headers)).toBe("The request has no bearer token. Send Authorization: Bearer TOKEN.");
      for (const token of ["wrong", `${target.callerToken}x`])
        expect(await detailWith(bearer(token))).toBe(
          "The token is not in force. Send one that the service is configured with.",
        );
    });

    test("a caller token is a 403 on admin calls, an admin token permits all calls", async () => {
      for (const method of ["GET", "DELETE"])
        await expectProblem(
          await target.fetch("/v1/keys/user:u", { method, headers: bearer(target.callerToken) }),
          403,
        );
      const headers = { ...bearer(target.adminToken), "Content-Type": "application/json" };
      const response = await target.fetch("/v1/check", { method: "POST", headers, body: JSON.stringify(valid) });
      expect(response.status).toBe(200);
    });

    test("the authentication scheme is case-insensitive", async () => {
      const headers = { Authorization: `bearer ${target.callerToken}` };
      expect((await target.fetch("/v1/policies", { headers })).status).toBe(200);
    });
  });

  describe(`${name}: paths and methods`, () => {
    test.each([
      "/",
      "/v1",
      "/v1/",
      "/v1/consume/",
      "/v1/nope",
      "/v2/consume",
      "/v1/keys",
      "/v1/keys/",
      "/v1/keys/a/b",
      "//v1/consume",
      "/healthz/",
      "/V1/consume",
    ])("%s is a 404 with any token and method", async (path) => {
      for (const method of ["GET", "POST", "DELETE", "PUT"])
        await expectProblem(await target.fetch(path, { method, headers: bearer("wrong") }), 404);
    });

    test.each([
      ["/v1/consume", "GET", "POST"],
      ["/v1/consume", "OPTIONS", "POST"],
      ["/v1/check", "PUT", "POST"],
      ["/v1/policies", "POST", "GET, HEAD"],
      ["/v1/keys/user:u", "POST", "GET, HEAD, DELETE"],
      ["/healthz", "DELETE", "GET, HEAD"],
      ["/openapi.json", "POST", "GET, HEAD"],
    ])("%s refuses %s with a 405", async (path, method, allow) => {
      const response = await target.fetch(path, { method });
      await expectProblem(response, 405);
      expect(response.headers.get("Allow")).toBe(allow);
    });

    test("HEAD answers like GET, without a body", async () => {
      for (const path of ["/healthz", "/openapi.json"]) {
        const get = await target.fetch(path);
        const head = await target.fetch(path, { method: "HEAD" });
        expect([head.status, head.headers.get("Content-Type"), await head.text()]).toEqual([
          200,
          get.headers.get("Content-Type"),
          "",
        ]);
      }
      const post = await target.fetch("/v1/consume", { method: "HEAD" });
      expect([post.status, post.headers.get("Allow")]).toEqual([405, "POST"]);
    });

    test("a request with several mistakes is refused for the first in the documented order", async () => {
      const post = (path: string, headers: Record<string, string>, body: string) =>
        target.fetch(path, { method: "POST", headers, body });
      const typed = { "Content-Type": "application/json" };
      const large = "x".repeat(10_000);
      expect((await post("/nope", {}, large)).status).toBe(404);
      expect((await post("/v1/keys/user:u", {}, large)).status).toBe(405);
      expect((await post("/v1/consume", {}, large)).status).toBe(401);
      expect((await target.fetch("/v1/keys/%", { headers: bearer(target.callerToken) })).status).toBe(403);
      expect(
        (await post("/v1/consume", { ...bearer(target.callerToken), "Content-Type": "text/plain" }, large)).status,
      ).toBe(415);
      expect((await caller.post("/v1/consume", large)).status).toBe(413);
      expect((await caller.post("/v1/consume", { policy: "nope", subject, cost: 0 })).status).toBe(400);
      expect((await caller.post("/v1/consume", { policy: "nope", subject, cost: 100 })).status).toBe(404);
      expect(
        (await caller.post("/v1/consume", { policy: "chat", subject: { ip: "x" }, cost: 100 }, typed)).status,
      ).toBe(400);
      expect((await caller.post("/v1/consume", { ...valid, cost: 100 })).status).toBe(422);
    });
  });
}
