import type { Connection } from "./connection";
import { CommandFailure } from "./failures";

const TIMEOUT_MS = 10_000;

interface Problem {
  readonly detail?: string;
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

/**
 * Makes a call about a key, and returns the body of the reply.
 * @throws CommandFailure that says what to do, if it is refused or nothing answers.
 */
export async function callAboutKey(
  { url, token }: Connection,
  key: string,
  { method = "GET", path = "", body }: { method?: string; path?: string; body?: object } = {},
): Promise<string> {
  const response = await send(url, `/v1/keys/${encodeURIComponent(key)}${path}`, {
    method,
    headers: { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new CommandFailure(refusalText(url, response, text));
  return text;
}

async function send(url: string, path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url + path, { ...init, redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    const { message, cause } = error as Error & { cause?: NodeJS.ErrnoException };
    throw new CommandFailure(
      `No limiter answers at ${url} (${cause?.code ?? cause?.message ?? message}). Start one with \`npx exact-limiter start\`, or set EXACT_LIMITER_URL.`,
    );
  }
}

function refusalText(url: string, { status, headers }: Response, text: string): string {
  if (!/json/.test(headers.get("Content-Type") ?? ""))
    return `${url} answered ${status}, and not as a limiter does. Set EXACT_LIMITER_URL to the URL of the limiter.`;
  const { detail = "", errors = [] } = JSON.parse(text) as Problem;
  const canonical = /<\/v1\/keys\/([^/>]+)[^>]*>; *rel="canonical"/.exec(headers.get("Link") ?? "")?.[1];
  return [
    `${url} answered ${status}: ${detail}`,
    ...errors.map(({ pointer, detail }) => `  ${pointer}: ${detail}`),
    ...(canonical === undefined ? [] : [`Its normal form is ${decodeURIComponent(canonical)}`]),
    ...(status === 401 || status === 403 ? ["Set EXACT_LIMITER_TOKEN to an admin token of this service."] : []),
  ].join("\n");
}
