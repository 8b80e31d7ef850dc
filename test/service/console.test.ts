import { afterAll, describe, expect, test } from "vitest";
import { ServiceProcess } from "../../tools/service-process";
import { variables } from "./service";

const service = await ServiceProcess.start(variables());
afterAll(async () => void (await service.stop()));

describe("the service serves the console", () => {
  test.each([
    ["/console", "text/html; charset=utf-8"],
    ["/console/main.js", "text/javascript; charset=utf-8"],
    ["/console/console.css", "text/css; charset=utf-8"],
    ["/console/icon.svg", "image/svg+xml"],
  ])("at %s, with restrictive security headers", async (path, type) => {
    for (const method of ["GET", "HEAD"]) {
      const response = await service.fetch(path, { method });
      expect([response.status, response.headers.get("Content-Type")]).toEqual([200, type]);
      expect((await response.text()).length > 0).toBe(method === "GET");
      const { "content-security-policy": policy, ...headers } = Object.fromEntries(response.headers);
      expect(policy?.split("; ")).toEqual([
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html",
      ]);
      expect(headers).toMatchObject({
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
      });
    }
  });

  test("with an ETag, and answers 304 to it", async () => {
    const first = await service.fetch("/console/main.js");
    const etag = first.headers.get("ETag") ?? "";
    const again = await service.fetch("/console/main.js", { headers: { "If-None-Match": etag } });
    expect([first.headers.get("Cache-Control"), again.status]).toEqual(["public, max-age=0, must-revalidate", 304]);
    expect(again.headers.get("Content-Security-Policy")).toBe(first.headers.get("Content-Security-Policy"));
  });

  test("for a request with any number of headers", async () => {
    const headers = Array.from({ length: 3_000 }, (_, i): [string, string] => [`X-${i}`, ""]);
    expect((await service.fetch("/console/main.js", { headers })).status).toBe(200);
  });
});

test.each(["/console/", "/console/nope", "/console.html", "/console/console.html", "/console/%2e%2e%2fconsole.html"])(
  "%s is a 404",
  async (path) => {
    const response = await service.fetch(path);
    expect([response.status, response.headers.get("Content-Type")]).toEqual([404, "application/problem+json"]);
  },
);

test("the console refuses POST", async () => {
  const response = await service.fetch("/console", { method: "POST" });
  expect([response.status, response.headers.get("Allow")]).toEqual([405, "GET, HEAD"]);
});
