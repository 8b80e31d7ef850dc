import { distance } from "fastest-levenshtein";
import { VARIABLE_NAMES } from "../config/config";
import { SETTING_NAMES } from "./variables";

const PREFIX = /^(RATE_LIMIT|LIMITER)_/;

/** Bindings of `wrangler.toml`, which are no variables. */
const BINDINGS = ["LIMITER_OBJECTS", "LIMITER_STATS", "LIMITER_ANALYTICS"];

const KNOWN = [...VARIABLE_NAMES, ...SETTING_NAMES].filter((name) => PREFIX.test(name));

/**
 * A warning for each name that looks like a variable of the service and is none: the service does not read it, so a
 * misspelt limit would silently keep its default. Nothing is refused: the variable may belong to another program.
 */
export function unknownVariables(names: readonly string[]): string[] {
  return names
    .filter((name) => PREFIX.test(name) && !KNOWN.includes(name) && !BINDINGS.includes(name))
    .map((name) => {
      const meant = closestName(name);
      return `Unknown variable ${name}. ${meant ? `Did you mean ${meant}?` : "README.md lists all variables."}`;
    });
}

/** The known name that differs least, unless half of it differs. Prefixes don't count: they are easily mixed up. */
function closestName(name: string): string | undefined {
  const own = name.replace(PREFIX, "");
  const candidates = KNOWN.map((known) => {
    const other = known.replace(PREFIX, "");
    return { known, share: distance(own, other) / Math.max(own.length, other.length) };
  }).sort((a, b) => a.share - b.share);
  const [best] = candidates;
  return best && best.share <= 0.5 ? best.known : undefined;
}
