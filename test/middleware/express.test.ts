import { once } from "node:events";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import express, { type RequestHandler } from "express";
import express4 from "express4";
import { describe, expect, onTestFinished, vi } from "vitest";
import { type LimitOptions, rateLimit } from "../../src/middleware/express.js";
import type { TestLimiter } from "../../src/testing/index.js";
import { listen } from "./frameworks.js";
import { test } from "./limiter.js";

const serve = (limiter: TestLimiter, policy: string, options: LimitOptions, handler: RequestHandler) =>
  listen(createServer(express().use(rateLimit(limiter.client, { trustedProxies: 0 })(policy, options), handler)));

const used = async ({ client }: TestLimiter) =>
  (await client.check({ policy: "llm", subject: { ip: "127.0.0.1" } })).limits.map(({ used }) => used);

const answerOk: RequestHandler = (_, response) => void response.send("ok");

describe("an application of Express", () => {
  test("answers in a way of its own", async ({ limiter }) => {
    const reply: LimitOptions["reply"] = ({ status, decision }, _, response) =>
      void response.status(status).send(`<p>Wait ${decision?.retryAfterSeconds} s`);
    const url = await serve(limiter, "chat", { reply }, answerOk);
    for (let i = 0; i < 5; i++) await fetch(url);
    const denied = await fetch(url);
    expect([denied.status, await denied.text()]).toEqual([429, "<p>Wait 60 s"]);
  });

  test("leaves a denial to its error handler, if it is told so", async ({ limiter }) => {
    const reply: LimitOptions["reply"] = ({ status }, _, __, next) => next(Object.assign(new Error("no"), { status }));
    const url = await serve(limiter, "chat", { reply }, answerOk);
    for (let i = 0; i < 5; i++) await fetch(url);
    expect((await fetch(url)).status).toBe(429);
  });

  test("asks for the refund of a visitor who leaves before there is a response with 499", async ({ limiter }) => {
    let begin = () => {};
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const url = await serve(limiter, "llm", { refund: (status) => status === 499 }, () => begin());
    const visitor = new AbortController();
    const response = fetch(url, { signal: visitor.signal });
    await begun;
    expect(await used(limiter)).toEqual([1, 1]);
    visitor.abort();
    await expect(response).rejects.toThrow("aborted");
    await expect.poll(() => used(limiter)).toEqual([0, 0]);
  });

  test("releases the place of a visitor who leaves before the decision", async ({ limiter }) => {
    const visitor = new AbortController();
    const user: LimitOptions["user"] = async ({ res }) => {
      visitor.abort();
      if (res) await once(res, "close");
      return undefined;
    };
    const url = await serve(limiter, "llm", { user, releaseAfterResponse: true }, answerOk);
    await expect(fetch(url, { signal: visitor.signal })).rejects.toThrow("aborted");
    await expect.poll(() => used(limiter)).toEqual([1, 0]);
  });

  describe.each([
    { name: "Express 5", make: express },
    { name: "Express 4", make: express4 },
  ])("of $name", ({ make }) => {
    /** `before` comes before a limit of two that are concurrent. */
    const serveBehind = (
      limiter: TestLimiter,
      before: RequestHandler,
      options: LimitOptions,
      handler: RequestHandler,
    ) => {
      const limit = rateLimit(limiter.client, { trustedProxies: 0 });
      return listen(createServer(make().set("env", "test").use(before, limit("llm", options), handler)));
    };

    test("lives on when a timeout has answered before the decision, and releases its place", async ({ limiter }) => {
      const rejected = vi.fn();
      process.on("unhandledRejection", rejected);
      onTestFinished(() => void process.off("unhandledRejection", rejected));
      const answerEarly: RequestHandler = (_, response, next) => {
        response.status(503).end("too late");
        next();
      };
      const handled = vi.fn();
      const replied = vi.fn();
      const reply: LimitOptions["reply"] = (_, __, response) => {
        replied();
        response.status(429).send("denied");
      };
      const holding = await serveBehind(limiter, answerEarly, { reply }, () => handled());
      for (let i = 0; i < 3; i++) expect((await fetch(holding)).status).toBe(503);
      await expect.poll(() => replied).toHaveBeenCalledOnce();
      expect(handled).toHaveBeenCalledTimes(2);
      await limiter.reset();
      const releasing = await serveBehind(limiter, answerEarly, { releaseAfterResponse: true }, () => handled());
      expect((await fetch(releasing)).status).toBe(503);
      await expect.poll(() => used(limiter)).toEqual([1, 0]);
      expect(rejected).not.toHaveBeenCalled();
    });

    test("releases the places of pipelined requests whose visitor leaves", async ({ limiter }) => {
      const begun = vi.fn();
      const url = await serveBehind(
        limiter,
        (_, __, next) => next(),
        { releaseAfterResponse: true },
        () => begun(),
      );
      const visitor = connect(Number(new URL(url).port), "127.0.0.1");
      visitor.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2));
      await expect.poll(() => begun).toHaveBeenCalledTimes(2);
      expect(await used(limiter)).toEqual([2, 2]);
      visitor.destroy();
      await expect.poll(() => used(limiter)).toEqual([2, 0]);
    });

    test("counts a visitor who leaves before the decision by their address", async ({ limiter }) => {
      let look = () => {};
      const looksUp = new Promise<void>((resolve) => {
        look = resolve;
      });
      const user: LimitOptions["user"] = async ({ socket }) => {
        look();
        await once(socket, "close");
        return undefined;
      };
      const counted = vi.fn();
      const url = await serveBehind(
        limiter,
        (_, __, next) => next(),
        { user },
        ({ rateLimit }) => counted(rateLimit?.subject.ip),
      );
      const visitor = request(url, { localAddress: "127.0.0.2" }).on("error", () => {});
      visitor.end();
      await looksUp;
      visitor.destroy();
      await expect.poll(() => counted).toHaveBeenCalledExactlyOnceWith("127.0.0.2");
    });
  });
});
