import { randomBytes } from "node:crypto";
import { appendFileSync, chmodSync, existsSync, readFileSync, statSync } from "node:fs";
import { parse } from "dotenv";
import { isBlank, readConfig, VARIABLE_NAMES } from "../config/config";
import { StartFailure } from "./failure";

export type Variables = Record<string, unknown>;

/** The settings of the local service: where it listens, and where it keeps counters. The Worker does not read them. */
export const SETTING_NAMES = ["HOST", "PORT", "LIMITER_DATA_DIR"] as const;
export type Settings = Partial<Record<(typeof SETTING_NAMES)[number], string>>;

/**
 * The variables of the Worker: from `wrangler.toml`, overridden by `.dev.vars`, overridden by the environment. A
 * variable that is set but empty counts as not set.
 *
 * The placement in `wrangler.toml` is that of the deployed service. On one machine all keys share one object unless
 * `.dev.vars` or the environment says otherwise: each object costs three open files, and all share a disk and a core. There is
 * no jurisdiction: the data is where the machine is.
 */
export function localVariables(
  fromWrangler: Variables,
  devVarsPath: string,
  environment: NodeJS.ProcessEnv,
): Variables {
  const sources = [fromWrangler, { LIMITER_PLACEMENT: "shards:1" }, readDevVars(devVarsPath), environment];
  const names = VARIABLE_NAMES.filter((name) => name !== "LIMITER_JURISDICTION");
  return lastSet(names, sources);
}

/** The settings of the local service, from the same places. */
export function localSettings(fromWrangler: Variables, devVarsPath: string, environment: NodeJS.ProcessEnv): Settings {
  const set = lastSet(SETTING_NAMES, [fromWrangler, readDevVars(devVarsPath), environment]);
  return Object.fromEntries(Object.entries(set).map(([name, value]) => [name, String(value).trim()]));
}

/** The names of all variables that are set in these places, of other programs too. */
export function namesSet(fromWrangler: Variables, devVarsPath: string, environment: NodeJS.ProcessEnv): string[] {
  const sources = [fromWrangler, readDevVars(devVarsPath), environment];
  return [...new Set(sources.flatMap((source) => Object.keys(source).filter((name) => !isBlank(source[name]))))];
}

/** The place that the value of a variable comes from, in words. */
export function sourceOf(name: string, devVarsPath: string, environment: NodeJS.ProcessEnv): string {
  if (!isBlank(environment[name])) return "the environment";
  return isBlank(readDevVars(devVarsPath)[name]) ? "wrangler.toml" : devVarsPath;
}

function lastSet(names: readonly string[], sources: readonly Variables[]): Variables {
  const found: Variables = {};
  for (const source of sources) for (const name of names) if (!isBlank(source[name])) found[name] = source[name];
  return found;
}

function readDevVars(path: string): Variables {
  return existsSync(path) ? parse(readFileSync(path)) : {};
}

/** Matches a line with a token, also if it is commented out or a later line overrides it. */
const TOKEN_LINE = /LIMITER_(ADMIN_)?TOKENS\w*[ \t]*[=:][ \t]*\S/;

/**
 * Makes a `.dev.vars` with tokens readable for its owner only.
 * @throws StartFailure if that fails.
 */
export function restrictTokenFile(devVarsPath: string): void {
  if (!existsSync(devVarsPath)) return;
  const { LIMITER_TOKENS, LIMITER_ADMIN_TOKENS } = readDevVars(devVarsPath);
  const hasTokens = TOKEN_LINE.test(readFileSync(devVarsPath, "utf8"));
  if (hasTokens || !isBlank(LIMITER_TOKENS) || !isBlank(LIMITER_ADMIN_TOKENS)) restrictToOwner(devVarsPath);
}

function restrictToOwner(path: string): void {
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o077) === 0) return;
  try {
    chmodSync(path, mode & 0o700);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new StartFailure(
      `${path} holds tokens, others can read it, and that can't be changed (${reason}): run chmod 600 ${path}`,
    );
  }
}

/**
 * Adds the variables for tokens. If no token is set, generates a caller and an admin token and keeps them in
 * `.dev.vars`.
 * @throws ConfigError if the variables are invalid, StartFailure if `.dev.vars` can't be written.
 */
export function withTokens(variables: Variables, devVarsPath: string): Variables {
  const { callerTokens, adminTokens, tokenDigests } = readConfig(variables);
  if (callerTokens.length + adminTokens.length + tokenDigests.length > 0) return variables;
  const generated = { LIMITER_TOKENS: generateToken(), LIMITER_ADMIN_TOKENS: generateToken() };
  const startsOnNewLine = !existsSync(devVarsPath) || /(^|\n)$/.test(readFileSync(devVarsPath, "utf8"));
  const lines = Object.entries(generated).map(([name, token]) => `${name}=${token}\n`);
  if (existsSync(devVarsPath)) restrictToOwner(devVarsPath);
  try {
    appendFileSync(devVarsPath, `${startsOnNewLine ? "" : "\n"}${lines.join("")}`, { mode: 0o600 });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    throw new StartFailure(
      `No token is set, and ${devVarsPath}, which would keep new ones, can't be written (${reason}): set LIMITER_TOKENS and LIMITER_ADMIN_TOKENS in the environment`,
    );
  }
  return { ...variables, ...generated };
}

/** Recognises tokens that `npm start` generated, by their prefix and length. */
export function isGeneratedToken(token: string): boolean {
  return /^lim_[\w-]{28}$/.test(token);
}

function generateToken(): string {
  return `lim_${randomBytes(21).toString("base64url")}`;
}
