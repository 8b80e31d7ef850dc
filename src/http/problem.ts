import type { InvalidField, Refusal, RefusalKind } from "../edge/refusal";

/** An answer that is an error, as RFC 9457 has it. */
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

  toResponse(): Response {
    const { status, title, detail, errors } = this;
    const body = { type: "about:blank", title, status, detail, ...(errors.length > 0 && { errors }) };
    return problemResponse(body, this.headers);
  }
}

const WIRE: Record<RefusalKind, { status: number; title: string; headers?: Record<string, string> }> = {
  invalid: { status: 400, title: "Bad Request" },
  "unknown-policy": { status: 404, title: "Not Found" },
  "never-fits": { status: 422, title: "Unprocessable Content" },
  "reused-id": { status: 422, title: "Unprocessable Content" },
  "unknown-decision": { status: 404, title: "Not Found" },
  unreachable: { status: 503, title: "Service Unavailable", headers: { "Retry-After": "1" } },
};

export function problemOf({ kind, message, errors }: Refusal): Problem {
  const { status, title, headers } = WIRE[kind];
  return new Problem(status, title, message, headers, errors);
}

export function problemResponse(body: { status: number }, headers: Readonly<Record<string, string>>): Response {
  return new Response(JSON.stringify(body), {
    status: body.status,
    headers: { "Content-Type": "application/problem+json", "Cache-Control": "no-store", ...headers },
  });
}
