/** A line of the report: what was measured, beside what is normal. */
export interface Line {
  readonly what: string;
  readonly measured: string;
  readonly normal: string;
  /** Slow does not fail the run: it may be the way from here. `look`: only Cloudflare can show it. */
  readonly state: "ok" | "slow" | "BROKEN" | "look";
}

export const broken = (what: string, measured: string, normal: string): Line => ({
  what,
  measured,
  normal,
  state: "BROKEN",
});

export const look = (what: string, measured: string, normal: string): Line => ({
  what,
  measured,
  normal,
  state: "look",
});

/** A time that may be as long as is normal. */
export const timed = (what: string, ms: number, normalMs: number, more = ""): Line => ({
  what,
  measured: `${Math.round(ms)} ms${more}`,
  normal: `at most ${normalMs} ms`,
  state: ms <= normalMs ? "ok" : "slow",
});

/** The value that this share of the values does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
