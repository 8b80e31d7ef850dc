/** A response before it is sent: by itself, or as a result in a batch. */
export interface Reply {
  readonly status: number;
  readonly body: unknown;
  /** Made when they are asked for: most results of a batch are sent without. */
  headers(): Readonly<Record<string, string>>;
}

export function ok(body: unknown, headers: Reply["headers"] = () => ({})): Reply {
  return { status: 200, body, headers };
}

export function responseOf(reply: Reply): Response {
  const { status, body } = reply;
  const type = status >= 400 ? "application/problem+json" : "application/json";
  return new Response(JSON.stringify(body), {
    status,
    headers: { "Content-Type": type, "Cache-Control": "no-store", ...reply.headers() },
  });
}

export function json(body: unknown): Response {
  return responseOf(ok(body));
}
