import { isBan } from "../client/decision.js";
import type { Decision, InvalidRequestError, Subject } from "../client/index.js";
import type { Cost } from "./charge.js";

/** Why a request does not pass, and what to answer. */
export interface Refusal {
  /**
   * 429 denied, 503 in an outage, 400 an invalid user or address, 413 a cost by the request that no limit could ever
   * admit, 403 any other request that the limiter refuses.
   */
  readonly status: 400 | 403 | 413 | 429 | 503;
  readonly headers: Readonly<Record<string, string>>;
  /** For the visitor. */
  readonly body: object;
  /** For the application, with keys and all limits. Undefined for 400, 403 and 413. */
  readonly decision: Decision | undefined;
}

export const PROBLEM = "application/problem+json";

const PUBLIC_FIELDS = ["type", "title", "status", "detail", "violated-policies"] as const;

/** The largest cost that the service takes. */
const LARGEST_COST = 1_000_000_000;

/** The attributes that come from the visitor. */
const VISITORS = ["user", "ip"];

const BANNED = {
  type: "about:blank",
  title: "Banned",
  status: 429,
  detail: "Banned: requests of this user or address are not accepted.",
  retry_after_seconds: null,
};

/** The body of a denial for the visitor, without keys and limits. A ban has no wait: it may be lifted or renewed. */
export function publicBody(decision: Decision): object {
  if (isBan(decision)) return BANNED;
  const { body, degraded, retryAfterSeconds } = decision;
  const shown = PUBLIC_FIELDS.filter((name) => body[name] !== undefined).map((name) => [name, body[name]]);
  return {
    ...Object.fromEntries(shown),
    ...(degraded ? {} : { detail: `Too many requests: try again in ${retryAfterSeconds} s.` }),
    retry_after_seconds: retryAfterSeconds,
  };
}

export function refusalOfDenial(decision: Decision, bodyOf: (decision: Decision) => object): Refusal {
  const headers = isBan(decision) ? {} : decision.headers;
  return { status: decision.degraded ? 503 : 429, headers, body: bodyOf(decision), decision };
}

/** A request that can't be decided. */
export interface Mistake {
  readonly error: InvalidRequestError;
  readonly subject: Subject;
  /** The cost, if the visitor has chosen it by the size of the request. */
  readonly costOfVisitor: Cost | undefined;
}

/**
 * The refusal of a request that can't be decided: such a request never passes. The visitor sees their own mistakes;
 * for any other mistake, which is the application's, `report` is called.
 */
export function refusalOfMistake({ error, subject, costOfVisitor }: Mistake, report: () => void): Refusal {
  // 422: above a limit of the policy. A pointer: above all costs that the service takes.
  const pointers = costOfVisitor === undefined ? [] : ["/cost", ...pointersOfLargest(costOfVisitor)];
  if (pointers.length > 0 && (error.status === 422 || error.errors.some(({ pointer }) => pointers.includes(pointer))))
    return refused(413, "Content Too Large", "This request is larger than its rate limit could ever admit.");
  const mistakes = error.errors.filter(({ pointer }) => pointer.startsWith("/subject/"));
  // A missing attribute is the application's mistake.
  const isVisitors = ({ pointer }: { readonly pointer: string }) =>
    VISITORS.some((name) => pointer === `/subject/${name}` && !isAbsent(subject[name]));
  if (mistakes.length > 0 && mistakes.every(isVisitors))
    return refused(400, "Bad Request", mistakes.map(({ pointer, detail }) => `${pointer}: ${detail}`).join("; "));
  const long = longest(subject);
  if (error.status === 413 && VISITORS.includes(long))
    return refused(400, "Bad Request", `/subject/${long}: is too long`);
  report();
  return refused(403, "Forbidden", "This request is not accepted.");
}

function refused(status: 400 | 403 | 413, title: string, detail: string): Refusal {
  return { status, headers: {}, body: { type: "about:blank", title, status, detail }, decision: undefined };
}

function isAbsent(value: Subject[string]): boolean {
  return value === undefined || value === null;
}

function longest(subject: Subject): string {
  const lengthOf = (name: string) => String(subject[name] ?? "").length;
  return Object.keys(subject).sort((a, b) => lengthOf(b) - lengthOf(a))[0] ?? "";
}

/** The layers that cost more than the service takes. It refuses unknown layers too: no mistake of a visitor. */
function pointersOfLargest(cost: Cost): string[] {
  if (typeof cost === "number") return [];
  return Object.keys(cost)
    .filter((layer) => (cost[layer] as number) > LARGEST_COST)
    .map((layer) => `/cost/${layer}`);
}
