import * as z from "zod";
import { readBySchema } from "../request/refusal";

interface Bounds {
  readonly least: number;
  readonly most: number;
  /** The value of a parameter that is left out. */
  readonly fallback: number;
}

/**
 * Reads a whole number from a query that may have no other parameter.
 * @throws Refusal `invalid`
 */
export function numberIn(url: string, name: string, { least, most, fallback }: Bounds): number {
  const message = `must be a whole number from ${least} to ${most}`;
  const number = z
    .string(message)
    .regex(/^\d{1,4}$/, message)
    .transform(Number)
    .refine((value) => value >= least && value <= most, message)
    .default(fallback);
  return readBySchema(z.strictObject({ [name]: number }), queryOf(url))[name] as number;
}

/** A repeated parameter becomes a list, which is no valid value. */
function queryOf(url: string): Record<string, unknown> {
  const { searchParams } = new URL(url);
  return Object.fromEntries(
    [...searchParams.keys()].map((name) => {
      const values = searchParams.getAll(name);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}
