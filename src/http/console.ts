import type { IRequest } from "itty-router";
import type { Env } from "../service";
import { Problem } from "./problem";

/** The page of the console runs only its own files and talks only to this service. */
const CONTENT_SECURITY_POLICY = [
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
].join("; ");

const HEADERS = {
  "Content-Security-Policy": CONTENT_SECURITY_POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/**
 * Serves a file of the console. It goes through the Worker, so that it never arrives without these headers. Only the
 * path and If-None-Match are passed on: the assets must not see tokens, and take at most 2,000 headers.
 */
export async function consoleFile(request: IRequest, { ASSETS }: Env): Promise<Response> {
  const cachedTag = request.headers.get("If-None-Match");
  const file = await ASSETS?.fetch(
    new Request(request.url, { headers: cachedTag === null ? {} : { "If-None-Match": cachedTag } }),
  );
  if (!file?.ok && file?.status !== 304) throw new Problem(404, "Not Found", "The console has no such file.");
  const headers = new Headers(file.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(file.body, { status: file.status, headers });
}
