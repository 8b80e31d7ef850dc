import * as z from "zod";
import { readBySchema } from "../request/refusal";

interface Bounds {
  readonly least: number;
  readonly most: number;
}

/** A whole number in a query. */
export function numberIn({ least, most }: Bounds) {
  const message = `must be a whole number from ${least} to ${most}`;
  return z
    .string(message)
    .regex(new RegExp(`^\\d{1,${String(most).length}}$`), message)
    .transform(Number)
    .refine((value) => value >= least && value <= most, message);
}

/**
 * Reads a query that may have no other parameters.
 * @throws Refusal `invalid`
 */
export function readQuery<S extends z.ZodRawShape>(
  url: string,
  parameters: S,
): z.output<z.ZodObject<S, z.core.$strict>> {
  return readBySchema(z.strictObject(parameters), queryOf(url));
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
