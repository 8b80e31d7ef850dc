export type { Decision, DecisionBody, LimitBody, LimitState, Release, Settlement } from "./decision.js";
export {
  type InvalidField,
  InvalidRequestError,
  LimiterError,
  UnauthorizedError,
  UnavailableError,
  UnknownDecisionError,
  UnknownPolicyError,
} from "./errors.js";
export { Limiter } from "./limiter.js";
export type { Log } from "./log.js";
export type { LimiterOptions, OnError, Sleep, Transport } from "./options.js";
export type { Fetch } from "./reply.js";
export type {
  CheckRequest,
  ConsumeRequest,
  Cost,
  Id,
  ReadyRequest,
  ReleaseRequest,
  SettleRequest,
  Subject,
} from "./requests.js";
