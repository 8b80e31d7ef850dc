import { decideBatch } from "../http/batch";
import { LONGEST_BATCH_BYTES } from "../http/body";
import { errorReply, Problem } from "../http/problem";
import type { WaitUntil } from "../objects/asker";
import type { CallQueues } from "../objects/call-queue";
import { invalid, isRecord, Refusal, readBySchema } from "../request/refusal";
import { messageId, sessionMessage } from "../request/schema";
import { hasEnded, type Token } from "../request/tokens";
import type { Service } from "../service";

/** How many requests of a session may be unanswered. */
const MOST_UNANSWERED = 1_000;

/** Close codes. 4000 to 4999 are for private use, here with an HTTP status: https://www.rfc-editor.org/rfc/rfc6455#section-7.4 */
const TOO_LONG = 1_009;
const UNAUTHORIZED = 4_401;

const utf8 = new TextEncoder();

/** One session: decides each message as a batch, and answers it once all of its requests are decided. */
export class Session {
  readonly #unansweredIds = new Set<number>();
  #unanswered = 0;
  #isEnded = false;

  constructor(
    private readonly socket: Pick<WebSocket, "send" | "close">,
    private readonly service: Service,
    private readonly queues: CallQueues,
    private readonly token: Token | undefined,
    private readonly waitUntil: WaitUntil,
  ) {}

  async receive(message: string | ArrayBuffer): Promise<void> {
    // The client may have sent more before it heard of the end.
    if (this.#isEnded) return;
    const { token } = this;
    if (!token || hasEnded(token, this.service.now()))
      return this.#end(UNAUTHORIZED, token ? "The token has ended." : "The token is not in force.");
    if (isTooLong(message)) return this.#end(TOO_LONG, `A message has at most ${LONGEST_BATCH_BYTES} bytes.`);
    let id: number | null = null;
    try {
      const sent = read(message);
      id = this.#answerIdOf(sent);
      this.#send({ id, ...(await this.#decide(sent, token)) });
    } catch (error) {
      this.#send({ id, error: errorReply(error).body });
    }
  }

  async #decide(sent: unknown, token: Token) {
    const { id, ...batch } = readBySchema(sessionMessage, sent);
    const { length } = batch.requests;
    if (this.#unansweredIds.has(id))
      throw invalid([{ pointer: "/id", detail: "must not be that of an unanswered message" }]);
    if (this.#unanswered + length > MOST_UNANSWERED)
      throw new Problem(
        503,
        "Service Unavailable",
        `The session may have ${MOST_UNANSWERED} unanswered requests. Send this message again when some are answered.`,
      );
    this.#unansweredIds.add(id);
    this.#unanswered += length;
    try {
      return await decideBatch(batch, this.service, this.queues, this.waitUntil, token);
    } finally {
      this.#unansweredIds.delete(id);
      this.#unanswered -= length;
    }
  }

  /** The id of the answer: null if the message has no valid id, or the id of a message that is still unanswered. */
  #answerIdOf(sent: unknown): number | null {
    const id = messageId.safeParse(isRecord(sent) ? sent.id : undefined).data;
    return id === undefined || this.#unansweredIds.has(id) ? null : id;
  }

  #end(code: number, reason: string): void {
    this.#isEnded = true;
    this.socket.close(code, reason);
  }

  #send(answer: unknown): void {
    try {
      this.socket.send(JSON.stringify(answer));
    } catch {
      // The client is gone. Its admitted requests stay charged, as over HTTP.
    }
  }
}

/** @throws Refusal `invalid` */
function read(message: string | ArrayBuffer): unknown {
  if (typeof message !== "string") throw new Refusal("invalid", "The message is binary. Send text.");
  try {
    return JSON.parse(message);
  } catch {
    throw new Refusal("invalid", "The message is not valid JSON.");
  }
}

function isTooLong(message: string | ArrayBuffer): boolean {
  if (typeof message !== "string") return message.byteLength > LONGEST_BATCH_BYTES;
  // A UTF-16 code unit takes at most three bytes of UTF-8, so most messages need not be encoded.
  if (message.length * 3 <= LONGEST_BATCH_BYTES) return false;
  return message.length > LONGEST_BATCH_BYTES || utf8.encode(message).length > LONGEST_BATCH_BYTES;
}
