import type { Case } from "./cases";
import { ADMIN_TOKEN, CALLER_TOKEN } from "./request";
import type { Answer, Exchange } from "./wire";

/** What the runtime answers by itself to what is no HTTP, or none that it knows, before the service sees it. */
const OF_THE_RUNTIME = /^(400 (ERROR: .*|Bad Request)|431 ERROR: .*|500 Internal Server Error|501 ERROR: .*)$/;

const FILE_OF_THE_CONSOLE = /^(text\/(html|javascript|css); charset=utf-8|image\/svg\+xml)$/;

/** What must never leave the service: where its code is, and what it is trusted with. */
const INSIDE = new RegExp(`worker\\.js|node_modules|    at |${ADMIN_TOKEN}|${CALLER_TOKEN}`);

/** What is wrong with how a case ended: nothing, if all is well. */
export function mistakesIn(asked: Case, { answers, rest, isHung, isWhole }: Exchange): string[] {
  const mistakes: string[] = [];
  if (isHung) mistakes.push("neither answered nor closed");
  if (isWhole && rest !== "" && !isHeadOf(asked, rest)) mistakes.push(`half an answer, or none: ${rest.slice(0, 200)}`);
  if (isWhole && !isHung && !asked.breaksHttp && answers.length === 0) mistakes.push("closed without an answer");
  for (const answer of answers) {
    const told = mistakesInAnswer(asked, answer).map(
      (what) => `${what}: ${answer.status} ${answer.body.slice(0, 300)}`,
    );
    mistakes.push(...told);
  }
  if (asked.isDoomed && answers[0] && answers[0].status < 400) mistakes.push(`admitted what must be refused`);
  return mistakes;
}

/** The runtime's own answer to a HEAD announces a body, and rightly has none. */
function isHeadOf({ parts, breaksHttp }: Case, rest: string): boolean {
  return breaksHttp && Buffer.concat(parts).includes("HEAD ") && rest.endsWith("\r\n\r\n");
}

function mistakesInAnswer(asked: Case, { status, headers, body }: Answer): string[] {
  if (INSIDE.test(body) || INSIDE.test([...headers.values()].join("\n"))) return ["an answer tells what is inside"];
  if (asked.breaksHttp && !headers.get("content-type")?.includes("json") && OF_THE_RUNTIME.test(`${status} ${body}`))
    return [];
  if (status >= 500) return ["a fault"];
  if (status === 204 || !headers.has("content-length")) return body === "" ? [] : ["a body where there is none"];
  const type = headers.get("content-type");
  // What Prometheus reads, and what a browser does: the only answers that are no JSON.
  if (status === 200 && type?.startsWith("text/plain; version=")) return [];
  if (status === 200 && FILE_OF_THE_CONSOLE.test(type ?? ""))
    return headers.has("content-security-policy") ? [] : ["a file of the console that may run anything"];
  const content = parsed(body);
  if (content === undefined) return ["a body that is no JSON object"];
  if (status < 400) return type === "application/json" ? [] : [`a body of type ${type}`];
  return [
    ...(type === "application/problem+json" ? [] : [`a problem of type ${type}`]),
    ...(isProblem(content, status) ? [] : ["no problem as RFC 9457 has it"]),
    ...(hasWhatItNeeds(status, headers, content) ? [] : ["a header is missing, or is not what the body says"]),
  ];
}

function parsed(body: string): Record<string, unknown> | undefined {
  try {
    const content: unknown = JSON.parse(body);
    return typeof content === "object" && content !== null ? (content as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isProblem({ type, title, status, detail, errors = [] }: Record<string, unknown>, told: number): boolean {
  const isText = (value: unknown) => typeof value === "string" && value !== "";
  const isError = (error: unknown) => {
    const { pointer, detail } = Object(error) as Record<string, unknown>;
    return typeof pointer === "string" && /^(\/|$)/.test(pointer) && isText(detail);
  };
  return [type, title, detail].every(isText) && status === told && Array.isArray(errors) && errors.every(isError);
}

function hasWhatItNeeds(status: number, headers: Answer["headers"], body: Record<string, unknown>): boolean {
  if (status === 401) return headers.get("www-authenticate") === "Bearer";
  if (status === 405) return headers.has("allow");
  if (status === 429) return headers.get("retry-after") === String(body.retry_after_seconds);
  return true;
}

interface Told {
  readonly limits?: readonly { readonly layer: string; readonly key: string; readonly used: number }[];
}

/**
 * What a user's counter was last said to have in use: what must be stored then. Nothing, where nothing was said of it;
 * undefined where answers were lost, so that nobody knows.
 */
export function usedAsTold({ user, ending }: Case, policy: string, exchange: Exchange): number | undefined {
  const { answers, isWhole, isHung } = exchange;
  if (!isWhole || isHung || ending === "drop") return undefined;
  // Which of the keys was forgotten, the one or the other, an answer does not say.
  if (answers.length > 1 && answers.some(({ status }) => status === 204)) return undefined;
  let used = 0;
  for (const { body } of answers) {
    const content = parsed(body) as
      | (Told & { policy?: string; results?: { body: Told & { policy?: string } }[] })
      | undefined;
    for (const decision of [content, ...(content?.results ?? []).map((result) => result.body)])
      if (decision?.policy === policy)
        for (const { layer, key, used: now } of decision.limits ?? [])
          if (layer === "caller" && key === `user:${user}`) used = now;
  }
  return used;
}
