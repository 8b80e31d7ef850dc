import type * as z from "zod";
import { LARGEST_MAX } from "../core/limit";
import { isRecord } from "./refusal";
import { type decisionRequest, ID } from "./schema";

export type DecisionFields = z.output<typeof decisionRequest>;

const WHOLE_ID = new RegExp(`^${ID}$`);

/** The same as the schema `decisionId`. */
export function isDecisionId(input: unknown): input is string {
  return typeof input === "string" && WHOLE_ID.test(input);
}

/**
 * A fast path: true only for an input that the schema accepts unchanged. False says nothing: the schema decides then, and
 * finds the mistakes. It takes many times longer, and most requests are valid. The fields `otherFields` are read elsewhere.
 */
export function isDecisionRequest(
  input: Readonly<Record<string, unknown>>,
  otherFields: readonly string[],
): input is DecisionFields & Record<string, unknown> {
  for (const name in input)
    if (name !== "policy" && name !== "subject" && name !== "cost" && !otherFields.includes(name)) return false;
  const { policy, subject, cost = 1 } = input;
  return typeof policy === "string" && isSubject(subject) && isCost(cost);
}

function isCost(value: unknown): boolean {
  if (typeof value === "number") return Number.isInteger(value) && value >= 1;
  if (!isPlainRecord(value)) return false;
  for (const name in value) {
    const cost = value[name];
    if (!Number.isInteger(cost) || Number(cost) < 0 || Number(cost) > LARGEST_MAX || name === "__proto__") return false;
  }
  return true;
}

/** RPC can send other objects, such as a Map. */
function isPlainRecord(value: unknown): value is Record<string, unknown> {
  return isRecord(value) && Object.getPrototypeOf(value) === Object.prototype;
}

function isSubject(value: unknown): boolean {
  if (!isPlainRecord(value)) return false;
  // The schema leaves `__proto__` out.
  for (const name in value)
    if ((typeof value[name] !== "string" && value[name] !== null) || name === "__proto__") return false;
  return true;
}
