import type { Connection } from "./connection";
import { CommandFailure } from "./failures";

const TIMEOUT_MS = 10_000;

interface Problem {
  /** Only problems of the service repeat their status. */
  readonly status?: number;
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
  const reply = await send(url, `/v1/keys/${encodeURIComponent(key)}${path}`, {
    method,
    headers: { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const answer = bodyOf(reply);
  // The body of a 204 is empty, and any other says which key it is about.
  const isDone = method === "DELETE" ? reply.status === 204 : reply.status === 200 && answer?.key === key;
  if (!isDone) throw new CommandFailure(refusalText(url, reply, answer));
  return reply.text;
}

interface Answer extends Problem {
  /** In answers about a key. */
  readonly key?: string;
}

interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

async function send(url: string, path: string, init: RequestInit): Promise<Reply> {
  try {
    const response = await fetch(url + path, { ...init, redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS) });
    return { status: response.status, headers: response.headers, text: await response.text() };
  } catch (error) {
    const { message, cause } = error as Error & { cause?: NodeJS.ErrnoException };
    throw new CommandFailure(
      `No limiter answers at ${url} (${cause?.code ?? cause?.message ?? message}). Start one with \`npx exact-limiter start\`, or set EXACT_LIMITER_URL.`,
    );
  }
}

/** The body, if it is an object in JSON. */
function bodyOf({ text }: Reply): Answer | undefined {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null ? body : undefined;
  } catch {
    return undefined;
  }
}

function refusalText(url: string, { status, headers }: Reply, body: Problem | undefined): string {
  if (body?.status !== status)
    return `${url} answered ${status}, and not as a limiter does. Set EXACT_LIMITER_URL to the URL of the limiter.`;
  const { detail = "", errors = [] } = body;
  const canonical = /<\/v1\/keys\/([^/>]+)[^>]*>; *rel="canonical"/.exec(headers.get("Link") ?? "")?.[1];
  return [
    `${url} answered ${status}: ${detail}`,
    ...errors.map(({ pointer, detail }) => `  ${pointer}: ${detail}`),
    ...(canonical === undefined ? [] : [`Its normal form is ${decodeURIComponent(canonical)}`]),
    ...(status === 401 || status === 403 ? ["Set EXACT_LIMITER_TOKEN to an admin token of this service."] : []),
  ].join("\n");
}
