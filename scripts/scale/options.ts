import { parseArgs } from "node:util";
import { type Traffic, TYPICAL } from "./traffic";

interface Bounds {
  readonly least: number;
  readonly most: number;
  readonly whole?: boolean;
}

const share: Bounds = { least: 0, most: 1 };

const OPTIONS: Readonly<Record<string, { readonly sets: keyof Traffic; readonly bounds: Bounds }>> = {
  "decisions-per-day": { sets: "decisionsPerDay", bounds: { least: 1, most: 1e12 } },
  "signed-in": { sets: "signedIn", bounds: share },
  admitted: { sets: "admitted", bounds: share },
  checks: { sets: "checks", bounds: share },
  "denied-at-edge": { sets: "atEdge", bounds: share },
  "decisions-per-visit": { sets: "perVisit", bounds: { least: 1, most: 1e9 } },
  peak: { sets: "peak", bounds: { least: 1, most: 86_400 } },
  "hottest-address": { sets: "hottest", bounds: { least: 1e-9, most: 1 } },
  logged: { sets: "logged", bounds: share },
  shards: { sets: "shards", bounds: { least: 1, most: 9_999, whole: true } },
};

export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const USAGE = `npm run scale -- ${Object.entries(OPTIONS)
  .map(([name, { sets }]) => `[--${name} ${TYPICAL[sets] ?? "N"}]`)
  .join(" ")}`;

/** The traffic that the options describe; undefined without any. @throws UsageError */
export function readTraffic(args: readonly string[]): Traffic | undefined {
  const types = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: "string" } as const]));
  let values: Readonly<Record<string, string | undefined>>;
  try {
    ({ values } = parseArgs({ args: [...args], options: types }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (Object.keys(values).length === 0) return undefined;
  let traffic = TYPICAL;
  for (const [name, text] of Object.entries(values)) {
    const option = OPTIONS[name];
    if (option && text !== undefined) traffic = { ...traffic, [option.sets]: readNumber(name, text, option.bounds) };
  }
  return traffic;
}

function readNumber(name: string, text: string, { least, most, whole = false }: Bounds): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value)))
    throw new UsageError(`--${name} is a ${whole ? "whole " : ""}number from ${least} to ${most}, not "${text}"`);
  return value;
}
