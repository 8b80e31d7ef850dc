import { ConfigError } from "../config/mistake";
import { logFault } from "../fault";
import { type InvalidField, Refusal, type RefusalKind } from "../request/refusal";
import type { Reply } from "./reply";

/** An error on the wire (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly headers: Readonly<Record<string, string>> = {},
    readonly errors: readonly InvalidField[] = [],
  ) {
    super(detail);
  }

  toReply(): Reply {
    const { status, headers, title, detail, errors } = this;
    const body = { type: "about:blank", title, status, detail, ...(errors.length > 0 && { errors }) };
    return { status, body, headers: () => headers };
  }
}

const WIRE: Record<RefusalKind, { status: number; title: string; headers?: Record<string, string> }> = {
  invalid: { status: 400, title: "Bad Request" },
  "forbidden-policy": { status: 403, title: "Forbidden" },
  "unknown-policy": { status: 404, title: "Not Found" },
  "never-fits": { status: 422, title: "Unprocessable Content" },
  "reused-id": { status: 422, title: "Unprocessable Content" },
  "unknown-decision": { status: 404, title: "Not Found" },
  unreachable: { status: 503, title: "Service Unavailable", headers: { "Retry-After": "1" } },
};

/** The reply to an error. Unexpected errors return a generic 500; details go to the log. */
export function errorReply(error: unknown): Reply {
  if (error instanceof Problem) return error.toReply();
  if (error instanceof Refusal) return problemOf(error).toReply();
  if (error instanceof ConfigError)
    return new Problem(
      503,
      "Service Unavailable",
      "The configuration is wrong. The log of the service lists every mistake.",
      {
        "Retry-After": "60",
      },
    ).toReply();
  logFault("request_failed", error);
  return new Problem(500, "Internal Server Error", "The service failed. Its log has the details.").toReply();
}

function problemOf({ kind, message, errors }: Refusal): Problem {
  const { status, title, headers } = WIRE[kind];
  return new Problem(status, title, message, headers, errors);
}
