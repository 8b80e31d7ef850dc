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
  return (error?.issues ?? []).map(({ path, message }) => ({
    where: [...prefix, ...path.map(String)].join("/"),
    what: message,
  }));
}
