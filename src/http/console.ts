import type { IRequest } from "itty-router";
import type { Env } from "../service";
import { Problem } from "./problem";

/** The console's page may run what is served beside it and talk to this service, and nothing else. */
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
 * A file of the console. It goes through the Worker so that no way to it is without these headers. Of what was sent the
 * assets learn the path and what the browser has already: neither its tokens nor more headers than they can take (2,000).
 */
export async function consoleFile(request: IRequest, { ASSETS }: Env): Promise<Response> {
  const known = request.headers.get("If-None-Match");
  const file = await ASSETS?.fetch(
    new Request(request.url, { headers: known === null ? {} : { "If-None-Match": known } }),
  );
  if (!file?.ok && file?.status !== 304) throw new Problem(404, "Not Found", "The console has no such file.");
  const headers = new Headers(file.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(file.body, { status: file.status, headers });
}
