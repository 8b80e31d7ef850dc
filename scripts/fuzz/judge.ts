import type { Case } from "./cases";
import { ADMIN_TOKEN, CALLER_TOKEN } from "./request";
import type { Answer, Exchange } from "./wire";

/** Answers of the runtime itself, to bytes that are not valid HTTP or use a feature that it lacks. */
const RUNTIME_ANSWER = /^(400 (ERROR: .*|Bad Request)|431 ERROR: .*|500 Internal Server Error|501 ERROR: .*)$/;

const CONSOLE_FILE_TYPE = /^(text\/(html|javascript|css); charset=utf-8|image\/svg\+xml)$/;

/** What must never leave the service: stack traces, paths of its code, tokens. */
export const INTERNALS = new RegExp(`worker\\.js|node_modules|    at |${ADMIN_TOKEN}|${CALLER_TOKEN}`);

/** The mistakes in how the service answered a case. Empty if all is well. */
export function mistakesIn(sent: Case, { answers, rest, isHung, isWhole }: Exchange): string[] {
  const mistakes: string[] = [];
  if (isHung) mistakes.push("neither answered nor closed");
  if (isWhole && rest !== "" && !isHeadOf(sent, rest)) mistakes.push(`an incomplete answer: ${rest.slice(0, 200)}`);
  if (isWhole && !isHung && !sent.breaksHttp && answers.length === 0) mistakes.push("closed without an answer");
  for (const answer of answers) {
    const own = mistakesInAnswer(sent, answer);
    mistakes.push(...own.map((mistake) => `${mistake}: ${answer.status} ${answer.body.slice(0, 300)}`));
  }
  if (sent.isDoomed && answers[0] && answers[0].status < 400) mistakes.push("a request that must be refused was not");
  return mistakes;
}

/** The runtime's own answer to a HEAD announces a body and rightly has none. */
function isHeadOf({ parts, breaksHttp }: Case, rest: string): boolean {
  return breaksHttp && Buffer.concat(parts).includes("HEAD ") && rest.endsWith("\r\n\r\n");
}

function mistakesInAnswer(sent: Case, { status, headers, body }: Answer): string[] {
  if (INTERNALS.test(body) || INTERNALS.test([...headers.values()].join("\n"))) return ["an answer leaks internals"];
  if (sent.breaksHttp && !headers.get("content-type")?.includes("json") && RUNTIME_ANSWER.test(`${status} ${body}`))
    return [];
  if (status >= 500) return ["a server error"];
  if (status === 204 || !headers.has("content-length"))
    return body === "" ? [] : ["a body that the headers do not announce"];
  const type = headers.get("content-type");
  // Metrics for Prometheus and files for browsers are the only answers that are not JSON.
  if (status === 200 && type?.startsWith("text/plain; version=")) return [];
  if (status === 200 && CONSOLE_FILE_TYPE.test(type ?? ""))
    return headers.has("content-security-policy") ? [] : ["a console file without a content security policy"];
  const content = parseObject(body);
  if (content === undefined) return ["a body that is not a JSON object"];
  if (status < 400) return type === "application/json" ? [] : [`a body of type ${type}`];
  return [
    ...(type === "application/problem+json" ? [] : [`a problem of type ${type}`]),
    ...(isProblem(content, status) ? [] : ["a problem that is not as RFC 9457 has it"]),
    ...(hasRequiredHeaders(status, headers, content) ? [] : ["a header is missing, or differs from the body"]),
  ];
}

export function parseObject(body: string): Record<string, unknown> | undefined {
  try {
    const content: unknown = JSON.parse(body);
    return typeof content === "object" && content !== null ? (content as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

export function isProblem(
  { type, title, status, detail, errors = [] }: Record<string, unknown>,
  expectedStatus: number,
): boolean {
  const isText = (value: unknown) => typeof value === "string" && value !== "";
  const isError = (error: unknown) => {
    const { pointer, detail } = Object(error) as Record<string, unknown>;
    return typeof pointer === "string" && /^(\/|$)/.test(pointer) && isText(detail);
  };
  return (
    [type, title, detail].every(isText) && status === expectedStatus && Array.isArray(errors) && errors.every(isError)
  );
}

function hasRequiredHeaders(status: number, headers: Answer["headers"], body: Record<string, unknown>): boolean {
  if (status === 401) return headers.get("www-authenticate") === "Bearer";
  if (status === 405) return headers.has("allow");
  if (status === 429) return headers.get("retry-after") === String(body.retry_after_seconds);
  return true;
}

interface DecisionBody {
  readonly policy?: string;
  readonly limits?: readonly { readonly layer: string; readonly key: string; readonly used: number }[];
}

/**
 * The use of a user's counter as reported last, which must be the stored one: 0 if no answer reports it, undefined if
 * answers were lost.
 */
export function usedAsReported({ user, ending }: Case, policy: string, exchange: Exchange): number | undefined {
  const { answers, isWhole, isHung } = exchange;
  if (!isWhole || isHung || ending === "drop") return undefined;
  // With two answers, a 204 does not say whether the user's key was forgotten before or after its counter was reported.
  if (answers.length > 1 && answers.some(({ status }) => status === 204)) return undefined;
  let used = 0;
  for (const { body } of answers) {
    const content = parseObject(body) as (DecisionBody & { results?: { body: DecisionBody }[] }) | undefined;
    for (const decision of [content, ...(content?.results ?? []).map((result) => result.body)])
      if (decision?.policy === policy)
        for (const limit of decision.limits ?? [])
          if (limit.layer === "caller" && limit.key === `user:${user}`) used = limit.used;
  }
  return used;
}
