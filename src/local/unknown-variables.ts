import { distance } from "fastest-levenshtein";
import { VARIABLE_NAMES } from "../config/config";
import { SETTING_NAMES } from "./variables";

const PREFIX = /^(RATE_LIMIT|LIMITER)_/;

/** Bindings of `wrangler.toml`. They are no variables. */
const BINDINGS = [
  "LIMITER_OBJECTS",
  "LIMITER_STATS",
  "LIMITER_ANALYTICS",
  "LIMITER_HUBS",
  "LIMITER_AUDIT",
  "LIMITER_FAILED_SIGN_INS",
];

const VARIABLES = [...VARIABLE_NAMES, ...SETTING_NAMES].filter((name) => PREFIX.test(name));

/**
 * Warns about each name that looks like a variable of the service and is not: a misspelt limit would silently keep its
 * default. It is only a warning, since the variable may belong to another program.
 */
export function unknownVariables(names: readonly string[]): string[] {
  return names
    .filter((name) => PREFIX.test(name) && !VARIABLES.includes(name) && !BINDINGS.includes(name))
    .map((name) => {
      const closest = closestName(name);
      return `Unknown variable ${name}. ${closest ? `Did you mean ${closest}?` : "README.md lists all variables."}`;
    });
}

/**
 * The variable with the most similar name, if at most half of it differs. Prefixes are ignored: they are easily mixed
 * up.
 */
function closestName(name: string): string | undefined {
  const text = name.replace(PREFIX, "");
  const [best] = VARIABLES.map((variable) => {
    const other = variable.replace(PREFIX, "");
    return { variable, difference: distance(text, other) / Math.max(text.length, other.length) };
  }).sort((a, b) => a.difference - b.difference);
  return best && best.difference <= 0.5 ? best.variable : undefined;
}
