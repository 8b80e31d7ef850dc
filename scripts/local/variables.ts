import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { parse } from "dotenv";
import { readConfig, VARIABLE_NAMES } from "../../src/config/config";

export type Variables = Record<string, unknown>;

/**
 * The variables of the local service: those of `wrangler.toml`, over them those of `.dev.vars`, over them those of the
 * process's environment. One that is set but empty counts as not set.
 *
 * Counters share one object unless told otherwise: on one machine an object a key costs three open files each.
 */
export function localVariables(
  fromWrangler: Variables,
  devVarsPath: string,
  environment: NodeJS.ProcessEnv,
): Variables {
  const devVars = existsSync(devVarsPath) ? parse(readFileSync(devVarsPath)) : {};
  const variables: Variables = { LIMITER_PLACEMENT: "shards:1" };
  for (const source of [fromWrangler, devVars, environment])
    for (const name of VARIABLE_NAMES) if (isSet(source[name])) variables[name] = source[name];
  return variables;
}

/**
 * Makes a caller and an admin token when there is none of either, and keeps them in `.dev.vars`.
 * @throws ConfigError when the variables make no sense.
 */
export function withTokens(variables: Variables, devVarsPath: string): Variables {
  const { callerTokens, adminTokens } = readConfig(variables);
  if (callerTokens.length + adminTokens.length > 0) return variables;
  const made = { LIMITER_TOKENS: makeToken(), LIMITER_ADMIN_TOKENS: makeToken() };
  const startsOnNewLine = !existsSync(devVarsPath) || /(^|\n)$/.test(readFileSync(devVarsPath, "utf8"));
  const lines = Object.entries(made).map(([name, token]) => `${name}=${token}\n`);
  appendFileSync(devVarsPath, `${startsOnNewLine ? "" : "\n"}${lines.join("")}`, { mode: 0o600 });
  return { ...variables, ...made };
}

/** By how it begins and how long it is, so that `npm start` knows its own tokens again. */
export function isMadeHere(token: string): boolean {
  return /^lim_[\w-]{28}$/.test(token);
}

function makeToken(): string {
  return `lim_${randomBytes(21).toString("base64url")}`;
}

function isSet(value: unknown): boolean {
  return value !== undefined && !(typeof value === "string" && value.trim() === "");
}
