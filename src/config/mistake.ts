import type * as z from "zod";

/** Something in the configuration that makes no sense. */
export interface Mistake {
  /** The variable and, where it has structure, the way into it: `RATE_LIMIT_POLICIES/upload/layers/0`. */
  readonly where: string;
  readonly what: string;
}

/** Every mistake at once: half of a configuration is never used. */
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

/** What a schema says of a value that is missing or of another type, in place of zod's own words. */
export function must(be: string) {
  return { error: ({ input }: { readonly input?: unknown }) => `${input === undefined ? "missing: " : ""}must ${be}` };
}
