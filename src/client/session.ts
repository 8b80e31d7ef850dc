import type { Call } from "./call.js";
import { fieldsOf } from "./decision.js";
import { UnavailableError } from "./errors.js";
import { forwardedHeaders, type Reply } from "./reply.js";
import type { Socket, SocketEnd } from "./socket.js";
import { inBackground } from "./timer.js";

/** Bounds of the service: of a message, and of what a session has unanswered. */
const MOST_REQUESTS = 100;
const MOST_BYTES = 65_536;
const MOST_UNANSWERED = 1_000;

const PING_MS = 30_000;
const PONG_MS = 5_000;
/** A socket that keeps the process alive is closed after this time without a call. */
const HELD_MS = 5_000;
/** Without anything from the service for this time, while calls are unanswered, the connection is given up as dead. */
const SILENCE_MS = 1_000;
/** A message that is unanswered for this time will never be answered. */
const LOST_MS = 30_000;

const UNAUTHORIZED = 4_401;
/** Statuses that the service gives to single requests, and never to a message. */
const SINGLE_REQUEST_STATUSES = [404, 429];

/** A message in flight. */
interface Message {
  readonly calls: readonly Call[];
  readonly sentAtMs: number;
}

export interface SessionEvents {
  /** An answer has come, and there is room for more requests. */
  readonly onAnswer: () => void;
  /** The session has ended. Its unanswered calls have failed. */
  readonly onEnd: (session: Session) => void;
}

/** One open session: sends calls in messages, and gives each call its reply. */
export class Session {
  /** By their ids, in the order they were sent. */
  readonly #messages = new Map<number, Message>();
  #nextId = 0;
  #unanswered = 0;
  #hasAnswered = false;
  #hasEnded = false;
  #sentAtMs = performance.now();
  /** Since when calls are unanswered and nothing has come from the service. */
  #silentSinceMs = Number.POSITIVE_INFINITY;
  #isPinged = false;
  #timer: ReturnType<typeof inBackground>;

  constructor(
    private readonly socket: Socket,
    private readonly events: SessionEvents,
  ) {
    socket.hold?.(false);
    this.#timer = inBackground(this.#quietMs, () => this.#watch());
  }

  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** A ping is unanswered. */
  get isPinged(): boolean {
    return this.#isPinged;
  }

  get isIdle(): boolean {
    return this.#unanswered === 0;
  }

  *calls(): Iterable<Call> {
    for (const { calls } of this.#messages.values()) yield* calls;
  }

  /** Sends the first waiting calls in a message, as many as it may hold. Returns how many it has taken. */
  send(waiting: readonly Call[]): number {
    const room = Math.min(MOST_REQUESTS, MOST_UNANSWERED - this.#unanswered);
    const opening = `{"id":${this.#nextId},"headers":true,"requests":[`;
    const calls: Call[] = [];
    let bytes = opening.length + "]}".length;
    let text = opening;
    let taken = 0;
    for (const call of waiting) {
      if (!call.isDone) {
        bytes += call.bytes + ",".length;
        // The first call is always taken: it is far shorter than a message may be.
        if (calls.length === room || bytes > MOST_BYTES) break;
        text += calls.length === 0 ? call.json : `,${call.json}`;
        calls.push(call);
      }
      taken += 1;
    }
    if (calls.length > 0) this.#send(`${text}]}`, calls);
    return taken;
  }

  /** Ends the session if nothing has come for too long. Called when a call has had no answer in time. */
  dropIfUnresponsive(): void {
    if (performance.now() - this.#silentSinceMs >= SILENCE_MS) this.drop("the service does not respond");
  }

  /** Ends a session that can't be trusted any more. Its unanswered calls fail. */
  drop(reason: string): void {
    this.socket.drop();
    this.end({ code: 0, reason });
  }

  /** Ends an idle session. */
  close(): void {
    this.#hasEnded = true;
    this.#timer.cancel();
    this.socket.close();
  }

  receive(data: unknown): void {
    if (this.#hasEnded) return;
    this.#isPinged = false;
    if (this.#unanswered > 0) this.#silentSinceMs = performance.now();
    if (data === "pong") return;
    const { id, results, error } = fieldsOf(parse(data));
    const message = this.#messages.get(id as number);
    if (!message) {
      this.drop("the service sent something that is no answer");
      return;
    }
    this.#hasAnswered = true;
    this.#messages.delete(id as number);
    this.#unanswered -= message.calls.length;
    if (this.#unanswered === 0) {
      this.#silentSinceMs = Number.POSITIVE_INFINITY;
      this.socket.hold?.(false);
    }
    answerAll(message.calls, results, error);
    this.events.onAnswer();
  }

  /** Fails the unanswered calls, so that they are sent again, after the socket has ended. */
  end({ code, reason }: Pick<SocketEnd, "code" | "reason">): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#timer.cancel();
    const calls = [...this.calls()];
    this.#messages.clear();
    if (code === UNAUTHORIZED) {
      const reply = refusalOf(reason);
      for (const call of calls) call.answer(reply);
    } else {
      const error = new UnavailableError(`the session ended before an answer: ${reason || `code ${code}`}`);
      for (const call of calls) call.fail(error);
    }
    this.events.onEnd(this);
  }

  #send(text: string, calls: readonly Call[]): void {
    const nowMs = performance.now();
    if (this.#unanswered === 0) {
      this.#silentSinceMs = nowMs;
      this.socket.hold?.(true);
    }
    this.#messages.set(this.#nextId, { calls, sentAtMs: nowMs });
    this.#nextId += 1;
    this.#unanswered += calls.length;
    this.#sentAtMs = nowMs;
    for (const call of calls) call.onSent();
    this.socket.send(text);
  }

  /** The time without a message after which there is something to do. */
  get #quietMs(): number {
    return this.socket.isHeld ? HELD_MS : PING_MS;
  }

  /** One timer for the session, not one for each message: it looks when the last message was sent. */
  #watch(): void {
    const nowMs = performance.now();
    const [oldest] = this.#messages.values();
    const restMs = this.#sentAtMs + this.#quietMs - nowMs;
    if (oldest && nowMs - oldest.sentAtMs >= LOST_MS) {
      this.drop("a message was not answered");
    } else if (restMs > 1 || (this.socket.isHeld && !this.isIdle)) {
      this.#timer = inBackground(restMs > 1 ? restMs : SILENCE_MS, () => this.#watch());
    } else if (this.socket.isHeld) {
      this.close();
      this.events.onEnd(this);
    } else {
      this.#ping(nowMs);
    }
  }

  #ping(nowMs: number): void {
    this.#isPinged = true;
    this.#sentAtMs = nowMs;
    this.socket.send("ping");
    this.#timer = inBackground(PONG_MS, () => (this.#isPinged ? this.drop("no answer to a ping") : this.#watch()));
  }
}

/** The reply to a refused token, as over HTTP. */
export function refusalOf(reason: string): Reply {
  return { status: 401, headers: {}, body: { status: 401, detail: reason || "The token is not in force." } };
}

function answerAll(calls: readonly Call[], results: unknown, error: unknown): void {
  const hasResults = Array.isArray(results) && results.length === calls.length;
  const refusal = hasResults ? undefined : replyToAll(error);
  for (let i = 0; i < calls.length; i++) {
    const reply = hasResults ? replyOf(results[i]) : refusal;
    if (reply) calls[i]?.answer(reply);
    else calls[i]?.fail(new UnavailableError("the answer to a message did not come from the limiter"));
  }
}

/** The service refuses a message as a whole. */
function replyToAll(error: unknown): Reply | undefined {
  const { status } = fieldsOf(error);
  if (typeof status !== "number" || SINGLE_REQUEST_STATUSES.includes(status)) return undefined;
  return { status, headers: {}, body: error };
}

/** Undefined if it is no result. */
function replyOf(result: unknown): Reply | undefined {
  const { status, headers, body } = fieldsOf(result);
  if (typeof status !== "number" || typeof headers !== "object" || headers === null) return undefined;
  const headersByName = fieldsOf(headers);
  return { status, headers: forwardedHeaders((name) => headersByName[name]), body };
}

function parse(data: unknown): unknown {
  try {
    return JSON.parse(String(data));
  } catch {
    return undefined;
  }
}
