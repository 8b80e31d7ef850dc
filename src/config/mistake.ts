import type * as z from "zod";

/** A mistake in the configuration. */
export interface Mistake {
  /** The variable, and the path into it if it has structure: `RATE_LIMIT_POLICIES/upload/layers/0`. */
  readonly where: string;
  readonly what: string;
}

/** All mistakes in the configuration: the service never runs on half of a configuration. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";

  constructor(readonly mistakes: readonly Mistake[]) {
    super(`The configuration is wrong:\n${mistakes.map(({ where, what }) => `  ${where}: ${what}`).join("\n")}`);
  }
}

export function mistakesOf(error: z.ZodError | undefined, ...prefix: string[]): Mistake[] {
  return (error?.issues ?? []).flatMap((issue) => {
    const where = [...prefix, ...issue.path.map(String)].join("/");
    if (issue.code !== "unrecognized_keys") return { where, what: issue.message };
    return issue.keys.map((key) => ({ where, what: `unknown field ${JSON.stringify(key)}` }));
  });
}

/** The error of a schema for a value that is missing or of another type, in place of zod's own words. */
export function must(rule: string) {
  return {
    error: ({ input }: { readonly input?: unknown }) => `${input === undefined ? "missing: " : ""}must ${rule}`,
  };
}
