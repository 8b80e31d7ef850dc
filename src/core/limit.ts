/** The most cost that may be admitted in any window of `windowMs`. */
export interface Limit {
  /** Counts events instead of their cost: those that were admitted in the window and not released. */
  readonly kind?: "concurrent";
  readonly max: number;
  /** A whole number of seconds, in milliseconds. */
  readonly windowMs: number;
}

/** The largest limit, and so the largest cost. A million events of it add up to less than 2^53. */
export const LARGEST_MAX = 1_000_000_000;
export const LONGEST_WINDOW_MS = 31 * 86_400_000;

/** As in Python's `limits`, where a month has 30 days and a year 12 months. From short to long. */
const UNIT_MS = {
  second: 1_000,
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 7 * 86_400_000,
  month: 30 * 86_400_000,
  /** Longer than any window, so that the mistake is the window and not the word. */
  year: 360 * 86_400_000,
};

/** Matches in linear time: white space is collapsed first, so that no run of characters can be divided in two ways. */
const GRAMMAR =
  /^(?<max>\d+)(?<concurrent> concurrent)? ?(?:\/| per ) ?(?:(?<count>\d+) ?)?(?<unit>second|minute|hour|day|week|month|year)s?$/i;

/**
 * Reads `5/minute`, `5 per minute` or `2 per 5 seconds`, the notation of Python's `limits`. `2 concurrent per minute` is a
 * concurrent limit.
 * @throws RangeError that says what is wrong with the text.
 */
export function parseLimit(text: string): Limit {
  const parts = GRAMMAR.exec(text.trim().replace(/\s+/g, " "))?.groups;
  if (!parts)
    throw new RangeError(
      `"${text}" is not a limit: write it like 5/minute, 2 per 5 seconds or 2 concurrent per minute`,
    );
  const max = Number(parts.max);
  if (max < 1 || max > LARGEST_MAX) throw new RangeError(`"${text}": the limit must be from 1 to ${LARGEST_MAX}`);
  const unit = parts.unit?.toLowerCase() as keyof typeof UNIT_MS;
  const windowMs = Number(parts.count ?? 1) * UNIT_MS[unit];
  if (windowMs < 1_000 || windowMs > LONGEST_WINDOW_MS)
    throw new RangeError(`"${text}": the window must be from 1 second to 31 days`);
  return parts.concurrent ? { kind: "concurrent", max, windowMs } : { max, windowMs };
}

/** The limit as `parseLimit` reads it, in the largest unit of which its window is a whole number. */
export function limitText({ kind, max, windowMs }: Limit): string {
  const [unit, unitMs] = Object.entries(UNIT_MS).findLast(([, ms]) => windowMs % ms === 0) ?? ["second", 1_000];
  const count = windowMs / unitMs;
  const amount = kind ? `${max} ${kind}` : `${max}`;
  return count === 1 ? `${amount}/${unit}` : `${amount} per ${count} ${unit}s`;
}

export function longestWindowMs(limits: readonly Limit[]): number {
  return Math.max(...limits.map((limit) => limit.windowMs));
}
