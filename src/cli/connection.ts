import { resolve } from "node:path";
import { isBlank } from "../config/config";
import { localSettings, localVariables } from "../local/variables";
import { UsageError } from "./failures";

/** The service that a command talks to, and the token that it sends. */
export interface Connection {
  /** Without a slash at its end. */
  readonly url: string;
  readonly token: string;
}

/** Where tokens for each role are on this machine, in the order in which a command looks. */
const TOKENS = {
  admin: ["LIMITER_ADMIN_TOKENS"],
  caller: ["LIMITER_TOKENS", "LIMITER_ADMIN_TOKENS"],
} as const;
type TokenRole = keyof typeof TOKENS;

const LOOPBACK = /^(127(\.\d+){3}|localhost|\[::1\])$/;

export const CONNECTION_HELP = `
Without --url the service is EXACT_LIMITER_URL, else the one that \`exact-limiter start\` serves from this directory. The
token is EXACT_LIMITER_TOKEN. For a service on this machine it can also be in LIMITER_TOKENS, LIMITER_ADMIN_TOKENS or in
.dev.vars of this directory.`;

/**
 * Finds the service, and a token for it. Tokens of the service on this machine are sent to no other machine.
 * @throws UsageError if there is no token, or a URL is malformed.
 */
export function connectionTo(role: TokenRole, given: { readonly url?: string; readonly token?: string }): Connection {
  const url = readUrl(given.url ?? environment("EXACT_LIMITER_URL") ?? localUrl());
  const local = LOOPBACK.test(url.hostname) ? localToken(role) : undefined;
  const token = given.token ?? environment("EXACT_LIMITER_TOKEN") ?? local;
  if (token === undefined)
    throw new UsageError(`There is no token for ${url.origin}. Set EXACT_LIMITER_TOKEN to its ${role} token.`);
  return { url: url.href.replace(/\/+$/, ""), token: sendable(token.trim()) };
}

function readUrl(text: string): URL {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text))
    throw new UsageError(`${JSON.stringify(text)} is not a URL of a service, such as https://limiter.example.com.`);
  const url = new URL(text);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw new UsageError("The URL of a service has no user, no password, no query and no fragment.");
  return url;
}

/** Checked here, since the error of `fetch` shows the token. */
function sendable(token: string): string {
  if (/^[!-~]+$/.test(token)) return token;
  throw new UsageError("The token is empty, or has other characters than visible ASCII.");
}

function localUrl(): string {
  const { HOST = "127.0.0.1", PORT = "8787" } = localSettings({}, resolve(".dev.vars"), process.env);
  const host = ["0.0.0.0", "::"].includes(HOST) ? "127.0.0.1" : HOST;
  return `http://${host.includes(":") ? `[${host}]` : host}:${PORT}`;
}

/** The first token in the environment, else in `.dev.vars`. */
function localToken(role: TokenRole): string | undefined {
  const variables = localVariables({}, resolve(".dev.vars"), process.env);
  return TOKENS[role]
    .flatMap((name) => String(variables[name] ?? "").split(","))
    .map((token) => token.trim())
    .find((token) => token !== "");
}

function environment(name: string): string | undefined {
  const value = process.env[name];
  return isBlank(value) ? undefined : value?.trim();
}
