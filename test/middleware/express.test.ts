import { once } from "node:events";
import { createServer } from "node:http";
import express, { type RequestHandler } from "express";
import { describe, expect } from "vitest";
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
});
