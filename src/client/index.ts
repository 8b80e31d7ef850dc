export type { Fetch } from "./answer.js";
export type { Decision, DecisionBody, LimitBody, LimitState, Release, Settlement } from "./decision.js";
export {
  type InvalidField,
  InvalidRequestError,
  LimiterError,
  UnauthorizedError,
  UnavailableError,
  UnknownDecisionError,
} from "./errors.js";
export {
  type CheckRequest,
  type ConsumeRequest,
  Limiter,
  type LimiterOptions,
  type ReleaseRequest,
  type SettleRequest,
  type Subject,
} from "./limiter.js";
