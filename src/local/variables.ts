import { randomBytes } from "node:crypto";
import { appendFileSync, chmodSync, existsSync, readFileSync, statSync } from "node:fs";
import { parse } from "dotenv";
import { readConfig, VARIABLE_NAMES } from "../config/config";
import { StartFailure } from "./failure";

export type Variables = Record<string, unknown>;

/** What the local service is told besides the variables of the Worker: where it listens, and where counters are kept. */
export const SETTING_NAMES = ["HOST", "PORT", "LIMITER_DATA_DIR"] as const;
export type Settings = Partial<Record<(typeof SETTING_NAMES)[number], string>>;

/**
 * The variables of the Worker: those of `wrangler.toml`, over them those of `.dev.vars`, over them those of the
 * process's environment. One that is set but empty counts as not set.
 *
 * Counters share one object unless told otherwise: on one machine an object a key costs three open files each.
 */
export function localVariables(
  fromWrangler: Variables,
  devVarsPath: string,
  environment: NodeJS.ProcessEnv,
): Variables {
  const sources = [{ LIMITER_PLACEMENT: "shards:1" }, fromWrangler, readDevVars(devVarsPath), environment];
  return lastSet(VARIABLE_NAMES, sources);
}

/** The settings of the local service, from the same places. */
export function localSettings(fromWrangler: Variables, devVarsPath: string, environment: NodeJS.ProcessEnv): Settings {
  const set = lastSet(SETTING_NAMES, [fromWrangler, readDevVars(devVarsPath), environment]);
  return Object.fromEntries(Object.entries(set).map(([name, value]) => [name, String(value).trim()]));
}

/** The names of all variables that are set in these places, whatever they are for. */
export function namesSet(fromWrangler: Variables, devVarsPath: string, environment: NodeJS.ProcessEnv): string[] {
  const sources = [fromWrangler, readDevVars(devVarsPath), environment];
  return [...new Set(sources.flatMap((source) => Object.keys(source).filter((name) => isSet(source[name]))))];
}

/** Where the value of a variable is, in words: the place that overrides the others. */
export function sourceOf(name: string, devVarsPath: string, environment: NodeJS.ProcessEnv): string {
  if (isSet(environment[name])) return "the environment";
  return isSet(readDevVars(devVarsPath)[name]) ? devVarsPath : "wrangler.toml";
}

function lastSet(names: readonly string[], sources: readonly Variables[]): Variables {
  const found: Variables = {};
  for (const source of sources) for (const name of names) if (isSet(source[name])) found[name] = source[name];
  return found;
}

function readDevVars(path: string): Variables {
  return existsSync(path) ? parse(readFileSync(path)) : {};
}

/** A token in a line, whether or not the line is in force: it may be commented out, or another line may empty it. */
const TOKEN_LINE = /LIMITER_(ADMIN_)?TOKENS\w*[ \t]*[=:][ \t]*\S/;

/**
 * Takes the others' rights to a `.dev.vars` that has tokens.
 * @throws StartFailure when it can't.
 */
export function restrictTokenFile(devVarsPath: string): void {
  if (!existsSync(devVarsPath)) return;
  const { LIMITER_TOKENS, LIMITER_ADMIN_TOKENS } = readDevVars(devVarsPath);
  const hasTokens = TOKEN_LINE.test(readFileSync(devVarsPath, "utf8"));
  if (hasTokens || isSet(LIMITER_TOKENS) || isSet(LIMITER_ADMIN_TOKENS)) restrictToOwner(devVarsPath);
}

function restrictToOwner(path: string): void {
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o077) === 0) return;
  try {
    chmodSync(path, mode & 0o700);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new StartFailure(
      `${path} holds tokens, others can read it, and that can't be changed (${why}): run chmod 600 ${path}`,
    );
  }
}

/**
 * Makes a caller and an admin token when there is none of either, and keeps them in `.dev.vars`.
 * @throws ConfigError when the variables make no sense.
 */
export function withTokens(variables: Variables, devVarsPath: string): Variables {
  const { callerTokens, adminTokens } = readConfig(variables);
  if (callerTokens.length + adminTokens.length > 0) return variables;
  const made = { LIMITER_TOKENS: generateToken(), LIMITER_ADMIN_TOKENS: generateToken() };
  const startsOnNewLine = !existsSync(devVarsPath) || /(^|\n)$/.test(readFileSync(devVarsPath, "utf8"));
  const lines = Object.entries(made).map(([name, token]) => `${name}=${token}\n`);
  if (existsSync(devVarsPath)) restrictToOwner(devVarsPath);
  appendFileSync(devVarsPath, `${startsOnNewLine ? "" : "\n"}${lines.join("")}`, { mode: 0o600 });
  return { ...variables, ...made };
}

/** By how it begins and how long it is, so that `npm start` knows its own tokens again. */
export function isGeneratedToken(token: string): boolean {
  return /^lim_[\w-]{28}$/.test(token);
}

function generateToken(): string {
  return `lim_${randomBytes(21).toString("base64url")}`;
}

function isSet(value: unknown): boolean {
  return value !== undefined && !(typeof value === "string" && value.trim() === "");
}
