import { Call, type Sendable } from "./call.js";
import { UnavailableError } from "./errors.js";
import { Fallback } from "./fallback.js";
import type { Reply } from "./reply.js";
import { refusalOf, Session } from "./session.js";
import { openSocket, type SocketEnd } from "./socket.js";
import { inBackground } from "./timer.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** This many sessions in a row that end without an answer are as good as none. */
const MOST_FAILURES = 2;

export interface SessionsOptions {
  readonly url: string;
  readonly token: string;
  readonly deadlineMs: number;
  /** Calls may go by HTTP where no session can be had. */
  readonly canFallBack: boolean;
}

/**
 * Keeps one session open, from the first call on. Calls made in the same turn of the event loop are sent together. Calls
 * wait while a session is opened, and while the service has as many unanswered requests as it may have.
 */
export class Sessions {
  #session: Session | undefined;
  /** In the order of the calls. */
  #waiting: Call[] = [];
  #isFlushing = false;
  #isOpening = false;
  /** The handshake takes longer than a call should wait. */
  #isSlow = false;
  #isClosing = false;
  /** The handshakes, and sessions without an answer, that have failed in a row. */
  #failures = 0;
  #openAtMs = 0;
  /** Why no session was to be had last time. */
  #refusal: UnavailableError | undefined;
  readonly #fallback = new Fallback();
  #sweepAtMs = Number.POSITIVE_INFINITY;
  #sweepTimer: ReturnType<typeof inBackground> | undefined;

  constructor(private readonly options: SessionsOptions) {}

  /** Whether a call should be asked by a session. */
  get areOffered(): boolean {
    if (this.#session) return true;
    return !this.#isSlow && !this.#fallback.isHttp;
  }

  /**
   * Asks one request by a session, within `ms`. Resolves to undefined if it must go by HTTP.
   * @throws UnavailableError without an answer; the reason of the signal.
   */
  ask(json: string, ms: number, signal?: AbortSignal, key?: Sendable): Promise<Reply | undefined> {
    return new Promise((resolve, reject) => {
      const endsAtMs = performance.now() + ms;
      this.#waiting.push(new Call({ json, endsAtMs, signal, key, resolve, reject }));
      this.#isClosing = false;
      if (endsAtMs < this.#sweepAtMs) this.#sweepAt(endsAtMs, ms);
      this.#flushLater();
    });
  }

  /** HTTP has worked, for a call that no session could be had for, or for one that did not ask for a session. */
  onHttpReply(wasTurnedAway: boolean): void {
    if (this.#session) return;
    if (this.#isOpening) this.#fallback.onHttpReplyMeanwhile();
    else this.#fallback.onHttpReply(wasTurnedAway);
  }

  /** Ends the session once nothing is unanswered. */
  close(): void {
    this.#isClosing = true;
    this.#closeIfIdle();
  }

  #closeIfIdle(): void {
    if (!this.#isClosing || this.#waiting.length > 0 || !this.#session?.isIdle) return;
    this.#session.close();
    this.#session = undefined;
  }

  #flushLater(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    afterTurn(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    const session = this.#session;
    if (!session) this.#open();
    // Ends: each round takes calls, or there is no room for more.
    while (session && this.#waiting.length > 0) {
      const taken = session.send(this.#waiting);
      if (taken === 0) return;
      this.#waiting.splice(0, taken);
    }
  }

  #open(): void {
    if (this.#isOpening) return;
    this.#isOpening = true;
    const waitMs = this.#openAtMs - performance.now();
    if (waitMs > 0) setTimeout(() => this.#connect(), waitMs);
    else this.#connect();
  }

  #connect(): void {
    const { url, token, deadlineMs, canFallBack } = this.options;
    let session: Session | undefined;
    this.#fallback.onConnect();
    // A quarter of the deadline is half of an attempt: the other half is for HTTP.
    const patience = inBackground(deadlineMs / 4, () => {
      this.#isSlow = canFallBack;
      if (canFallBack) this.#sendByHttp();
    });
    openSocket(`${url.replace(/^http/, "ws")}/v1/session`, token, {
      onOpen: (socket) => {
        patience.cancel();
        const onAnswer = () => this.#onAnswer();
        session = new Session(socket, { onAnswer, onEnd: (session) => this.#onEnd(session) });
        this.#onOpen(session);
      },
      onMessage: (data) => session?.receive(data),
      onEnd: (end) => {
        patience.cancel();
        if (session) session.end(end);
        else this.#onRefused(end);
      },
    });
  }

  #onOpen(session: Session): void {
    this.#isOpening = false;
    this.#isSlow = false;
    this.#refusal = undefined;
    this.#session = session;
    this.#flush();
    this.#closeIfIdle();
  }

  #onAnswer(): void {
    this.#failures = 0;
    this.#fallback.onAnswer();
    if (this.#waiting.length > 0) this.#flushLater();
    else this.#closeIfIdle();
  }

  #onEnd(session: Session): void {
    if (this.#session === session) this.#session = undefined;
    if (!session.hasAnswered) this.#failures += 1;
    this.#pause();
    if (this.#failures >= MOST_FAILURES) this.#fallBack(true);
    // An idle connection has died unnoticed: the next call shall not wait for another.
    if (session.isPinged) this.#openAtMs = 0;
    if (session.isPinged || this.#waiting.length > 0) this.#open();
  }

  /** No session could be opened. */
  #onRefused({ reason, status }: SocketEnd): void {
    this.#isOpening = false;
    this.#isSlow = false;
    this.#failures += 1;
    this.#pause();
    this.#fallBack(false);
    // Without HTTP the refusal is the answer.
    const error = new UnavailableError(`${this.options.url}/v1/session can't be reached: ${reason || "no WebSocket"}`);
    this.#refusal = error;
    for (const call of this.#waiting.splice(0)) {
      if (status === 401 || status === 403) call.answer(refusalOf(""));
      else call.fail(error);
    }
  }

  /** No other session is opened before this pause. */
  #pause(): void {
    const longestMs = Math.min(LONGEST_PAUSE_MS, this.options.deadlineMs / 4);
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** Math.max(this.#failures - 1, 0), longestMs);
    this.#openAtMs = performance.now() + pauseMs * (0.5 + Math.random());
  }

  #fallBack(isMute: boolean): void {
    if (!this.options.canFallBack) return;
    this.#fallback.onFailure(isMute);
    this.#sendByHttp();
  }

  #sendByHttp(): void {
    for (const call of this.#waiting.splice(0)) call.answer(undefined);
  }

  #sweepAt(atMs: number, ms: number): void {
    this.#sweepTimer?.cancel();
    this.#sweepAtMs = atMs;
    this.#sweepTimer = inBackground(ms, () => this.#sweep());
  }

  /** Ends the calls whose time is over. One timer for all calls: most are answered long before. */
  #sweep(): void {
    const nowMs = performance.now();
    this.#sweepAtMs = Number.POSITIVE_INFINITY;
    let nextMs = Number.POSITIVE_INFINITY;
    const late: Call[] = [];
    for (const call of [...this.#waiting, ...(this.#session?.calls() ?? [])]) {
      if (call.isDone) continue;
      // A timer may fire a moment early.
      if (call.endsAtMs > nowMs + 1) nextMs = Math.min(nextMs, call.endsAtMs);
      else late.push(call);
    }
    if (nextMs !== Number.POSITIVE_INFINITY) this.#sweepAt(nextMs, nextMs - nowMs);
    if (late.length === 0) return;
    const error = this.#refusal ?? new UnavailableError("no answer within the time of an attempt");
    for (const call of late) call.fail(error);
    this.#waiting = this.#waiting.filter(({ isDone }) => !isDone);
    this.#session?.dropIfSilent();
  }
}

/** Runs `work` after the turn of the event loop, with all of its microtasks: answers that come together ask together. */
function afterTurn(work: () => void): void {
  const { setImmediate } = globalThis as { readonly setImmediate?: (work: () => void) => void };
  if (setImmediate) setImmediate(work);
  else setTimeout(work, 0);
}
