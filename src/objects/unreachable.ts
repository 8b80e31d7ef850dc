import { logFault } from "../fault";
import { Refusal } from "../request/refusal";
import { LeftAloneError } from "./breakers";

/**
 * What becomes of a decision when an object does not answer within the deadline, after its retries (`deadline.ts`):
 * live layers refuse the request, layers in shadow are left out.
 */
export type IfUnreachable = "refuse" | "leave out";

/** Logs that an object did not answer: it may have done its work. `breakers.ts` logs an overload, once a pause begins. */
export function logUnreachable(error: unknown): undefined {
  if (error instanceof LeftAloneError) return;
  logFault("object_unreachable", error);
}

/** @throws Refusal `unreachable` */
export function throwUnreachable(error?: unknown): never {
  if (error !== undefined) logUnreachable(error);
  throw new Refusal("unreachable", "The counters could not be reached in time. Try again.");
}
