import type { Limit } from "../src/core/limit";

/** Formats numbers, waits, instants and limits. */

const number = new Intl.NumberFormat("en");
const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const dayAndYear = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});

export function count(value: number): string {
  return number.format(value);
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
] as const;

/** `5 per minute`, `2 per 5 seconds`, `2 concurrent per 5 minutes`. */
export function limitText({ kind, max, windowMs }: Limit): string {
  return `${count(max)}${kind ? ` ${kind}` : ""} per ${windowText(windowMs)}`;
}

/** A duration in the largest unit that divides it: `minute`, `5 seconds`, `90 minutes`. */
export function windowText(windowMs: number): string {
  const [unit, unitMs] = UNITS.find(([, unitMs]) => windowMs % unitMs === 0) ?? ["second", 1_000];
  return windowMs === unitMs ? unit : plural(windowMs / unitMs, unit);
}

/** A wait, rounded up to a second: `23 s`, `4 min 5 s`, `3 h 12 min`, `2 d 4 h`. */
export function waitText(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return parts(seconds, 60, "min", 1, "s");
  if (seconds < 86_400) return parts(seconds, 3_600, "h", 60, "min");
  return parts(seconds, 86_400, "d", 3_600, "h");
}

function parts(seconds: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${largeUnit}${rest > 0 ? ` ${rest} ${smallUnit}` : ""}`;
}

/** An instant: the time, with the date unless it is today, and the year unless it is this one. */
export function instantText(atMs: number, nowMs: number): string {
  const at = new Date(atMs);
  if (at.toDateString() === new Date(nowMs).toDateString()) return clockTime.format(at);
  return (at.getFullYear() === new Date(nowMs).getFullYear() ? dayAndTime : dayAndYear).format(at);
}

/** An instant to the millisecond, since milliseconds decide at the edge of a window. */
export function exactText(atMs: number, nowMs: number): string {
  return `${instantText(atMs, nowMs)}.${String(Math.floor(atMs) % 1_000).padStart(3, "0")}`;
}
