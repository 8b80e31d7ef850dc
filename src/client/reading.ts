import {
  type Decision,
  decisionOf,
  fieldsOf,
  isDecision,
  isRelease,
  isSettlement,
  type Release,
  releaseOf,
  type Settlement,
  settlementOf,
} from "./decision.js";
import {
  InvalidRequestError,
  type LimiterError,
  MismatchedReplyError,
  UnknownDecisionError,
  UnknownPolicyError,
} from "./errors.js";
import type { Op } from "./exchange.js";
import { errorOf, notFromService, type Reply } from "./reply.js";
import type { Cost } from "./requests.js";
import { matchSubject } from "./subject.js";

/** What a reply must be about. */
export interface PolicySubject {
  readonly policy: string;
  readonly subject: Record<string, string | null | undefined>;
}

/** What the reply to a settle or a release must be about. */
interface Change extends PolicySubject {
  readonly id: string;
  readonly cost?: Cost | undefined;
}

/** @throws LimiterError unless the reply decides this question. */
export function decisionIn(reply: Reply, op: Op, question: PolicySubject): Decision {
  const { status, body, headers } = reply;
  if (isDecision(body) && status === (op === "consume" && !body.allowed ? 429 : 200)) {
    requireSameRequest(question, body);
    return decisionOf(body, headers);
  }
  const error = errorOf(reply, question.policy);
  throw isPlain404(error) ? notFromService(status) : error;
}

/** @throws LimiterError unless the reply settles this decision at this cost. */
export function settlementIn(reply: Reply, change: Change): Settlement {
  if (reply.status !== 200 || !isSettlement(reply.body)) throw errorOfChange(reply, change);
  requireSameRequest(change, reply.body);
  if (!isSameCost(reply.body.cost, change.cost)) throw new MismatchedReplyError();
  return settlementOf(reply.body);
}

/** @throws LimiterError unless the reply releases this decision. */
export function releaseIn(reply: Reply, change: Change): Release {
  if (reply.status !== 200 || !isRelease(reply.body)) throw errorOfChange(reply, change);
  requireSameRequest(change, reply.body);
  return releaseOf(reply.body);
}

/**
 * Requires these policies to be in force.
 * @throws UnknownPolicyError that names those that are not, another LimiterError for a reply that lists no policies.
 */
export function requirePolicies(reply: Reply, names: readonly string[]): void {
  const inForce = policiesIn(reply);
  const unknown = names.filter((name) => !inForce.includes(name));
  if (unknown.length === 0) return;
  const named = unknown.map((name) => JSON.stringify(name)).join(", ");
  const detail = `These policies are not in force: ${named}. In force are ${inForce.join(", ")}.`;
  const errors = unknown.map((name) => ({
    pointer: "/policy",
    detail: `${JSON.stringify(name)} names no policy in force`,
  }));
  throw new UnknownPolicyError(unknown, detail, errors);
}

/** The names of the policies in force. */
function policiesIn(reply: Reply): string[] {
  if (reply.status !== 200) throw errorOf(reply);
  const { policies } = fieldsOf(reply.body);
  if (!Array.isArray(policies)) throw notFromService(reply.status);
  return policies.map((policy) => {
    const { name } = fieldsOf(policy);
    if (typeof name !== "string") throw notFromService(reply.status);
    return name;
  });
}

/** @throws MismatchedReplyError if the reply is about another policy, key or decision. */
function requireSameRequest({ policy, subject, id }: PolicySubject & { readonly id?: string }, body: unknown): void {
  const reply = fieldsOf(body);
  const isSame = reply.policy === policy && (id === undefined || reply.id === id);
  if (!isSame || !matchSubject(subject, reply.limits as unknown[])) throw new MismatchedReplyError();
}

function isSameCost(cost: Cost, asked: Cost | undefined): boolean {
  if (typeof cost === "number" || typeof asked !== "object") return cost === asked;
  const layers = Object.keys(asked);
  return layers.length === Object.keys(cost).length && layers.every((layer) => cost[layer] === asked[layer]);
}

/** The error for a settle or a release. */
function errorOfChange(reply: Reply, { policy }: Change): LimiterError {
  const error = errorOf(reply, policy);
  return isPlain404(error) ? new UnknownDecisionError(error.message) : error;
}

/** The 404 of a decision or of a path: that of a policy points at its name. */
function isPlain404(error: LimiterError): boolean {
  return error instanceof InvalidRequestError && error.status === 404 && error.errors.length === 0;
}

/** The service can't decide this request, nor others like it. */
export function isOutage(error: LimiterError): boolean {
  return !(error instanceof InvalidRequestError) || error instanceof UnknownPolicyError;
}
