export type { Decision, DecisionBody, LimitBody, LimitState, Release, Settlement } from "./decision.js";
export {
  type InvalidField,
  InvalidRequestError,
  LimiterError,
  UnauthorizedError,
  UnavailableError,
  UnknownDecisionError,
} from "./errors.js";
export { Limiter } from "./limiter.js";
export type { Log } from "./log.js";
export type { LimiterOptions, Transport } from "./options.js";
export type { Fetch } from "./reply.js";
export type {
  CheckRequest,
  ConsumeRequest,
  Cost,
  ReadyRequest,
  ReleaseRequest,
  SettleRequest,
  Subject,
} from "./requests.js";
