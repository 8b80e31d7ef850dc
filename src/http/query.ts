import * as z from "zod";
import { readBySchema } from "../request/refusal";

/** What a parameter may be, and what it is when it is left out. */
interface Bounds {
  readonly least: number;
  readonly most: number;
  readonly fallback: number;
}

/**
 * A whole number in the query, which has no other parameter.
 * @throws Refusal `invalid`
 */
export function numberIn(url: string, name: string, { least, most, fallback: otherwise }: Bounds): number {
  const message = `must be a whole number from ${least} to ${most}`;
  const number = z
    .string(message)
    .regex(/^\d{1,4}$/, message)
    .transform(Number)
    .refine((value) => value >= least && value <= most, message)
    .default(otherwise);
  return readBySchema(z.strictObject({ [name]: number }), queryOf(url))[name] as number;
}

/** A parameter that stands more than once is none of those that are allowed. */
function queryOf(url: string): Record<string, unknown> {
  const { searchParams } = new URL(url);
  return Object.fromEntries(
    [...searchParams.keys()].map((name) => {
      const values = searchParams.getAll(name);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}
