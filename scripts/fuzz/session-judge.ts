import { INTERNALS, isProblem, parseObject } from "./judge";
import type { SessionCase } from "./session-cases";
import { type SessionExchange, statusOf } from "./session-wire";

const NORMAL = 1_000;
const MOST_ID = Number.MAX_SAFE_INTEGER;

interface Result {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** The mistakes in how the service held a session. Empty if all is well. */
export function mistakesInSession(sent: SessionCase, ended: SessionExchange): string[] {
  const { head, texts, closeCode, isHung, isWhole } = ended;
  const status = statusOf(head);
  const mistakes = texts.flatMap(mistakesInText);
  if (isHung) mistakes.push("neither answered nor closed");
  if (sent.breaksHandshake && status !== undefined && status >= 400 && status < 500) return mistakes;
  if (status !== 101) return [...mistakes, `no session: ${head.slice(0, 200)}`];
  const refused = texts.filter((text) => parseObject(text)?.error).length;
  if (isWhole && sent.answers !== undefined) {
    if (texts.length !== sent.answers) mistakes.push(`${texts.length} answers to ${sent.answers} messages`);
    if (closeCode !== NORMAL) mistakes.push(`a close with ${NORMAL} was answered with ${closeCode}`);
    if (refused < sent.doomed) mistakes.push(`${sent.doomed} messages must be refused, ${refused} were`);
  }
  if (isWhole && sent.endsWith !== undefined && closeCode !== sent.endsWith)
    mistakes.push(`closed with ${closeCode} instead of ${sent.endsWith}`);
  return mistakes;
}

function mistakesInText(text: string): string[] {
  const mistakes = (what: string) => [`${what}: ${text.slice(0, 300)}`];
  if (INTERNALS.test(text)) return mistakes("an answer leaks internals");
  if (text === "pong") return [];
  const { id, results, error, ...more } = parseObject(text) ?? { id: undefined };
  const isId = id === null || (Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MOST_ID);
  if (!isId || Object.keys(more).length > 0) return mistakes("a message that is no answer");
  if (error !== undefined) {
    const { status } = Object(error) as { status?: number };
    const isRight = results === undefined && (status === 400 || (status === 503 && id !== null));
    return isRight && isProblem(error as Record<string, unknown>, status as number) ? [] : mistakes("a wrong error");
  }
  if (!Array.isArray(results) || id === null) return mistakes("a message that is no answer");
  return (results as Result[]).every(isResult) ? [] : mistakes("a wrong result");
}

function isResult({ status, body }: Result): boolean {
  if (status === 200 || status === 429) return typeof body === "object" && body !== null && "limits" in body;
  return status >= 400 && status < 500 && isProblem(body, status);
}

/** The part of a cost that the layer `caller` was charged. */
function callersCost(cost: unknown): number {
  return typeof cost === "number" ? cost : (cost as { readonly caller: number }).caller;
}

/** What the user was charged, as told: the stored use must be the same. Undefined if answers were lost. */
export function chargedAsReported(
  { user, answers }: SessionCase,
  policy: string,
  { texts, isWhole, isHung }: SessionExchange,
): number | undefined {
  if (!isWhole || isHung || answers === undefined || texts.length !== answers) return undefined;
  let charged = 0;
  for (const text of texts)
    for (const { status, body } of (parseObject(text)?.results ?? []) as Result[]) {
      // Checks have no id.
      if (status !== 200 || body.replayed !== false || body.id === undefined || body.policy !== policy) continue;
      const limits = body.limits as readonly { readonly layer: string; readonly key: string }[];
      if (limits.some(({ layer, key }) => layer === "caller" && key === `user:${user}`))
        charged += callersCost(body.cost);
    }
  return charged;
}
