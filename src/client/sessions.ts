import { Call, type Sendable } from "./call.js";
import { UnavailableError } from "./errors.js";
import { Fallback } from "./fallback.js";
import type { Reply } from "./reply.js";
import { refusalOf, Session } from "./session.js";
import { openSocket, type SocketEnd } from "./socket.js";
import { inBackground } from "./timer.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** After this many sessions in a row that end without an answer, calls go by HTTP. */
const MOST_FAILURES = 2;

export interface SessionsOptions {
  readonly url: string;
  readonly token: string;
  readonly deadlineMs: number;
  /** Calls may go by HTTP where no session can be opened. */
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
  /** How many handshakes have failed, or sessions have ended without an answer, in a row. */
  #failures = 0;
  #openAtMs = 0;
  /** Why the last session could not be opened. */
  #openError: UnavailableError | undefined;
  readonly #fallback = new Fallback();
  #sweepAtMs = Number.POSITIVE_INFINITY;
  #sweepTimer: ReturnType<typeof inBackground> | undefined;

  constructor(private readonly options: SessionsOptions) {}

  /** Whether a call should go by a session. */
  get areOffered(): boolean {
    if (this.#session) return true;
    return !this.#isSlow && !this.#fallback.isHttp;
  }

  /**
   * Sends one request over a session. Resolves to undefined if it must go by HTTP.
   * @throws UnavailableError if there is no answer within `ms`; the reason of the signal if it is aborted.
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

  /** HTTP has worked. `wasTurnedAway`: for a call that was to go by a session and got none. */
  onHttpReply(wasTurnedAway: boolean): void {
    if (this.#session) return;
    if (this.#isOpening) this.#fallback.onHttpReplyMeanwhile();
    else this.#fallback.onHttpReply(wasTurnedAway);
  }

  /** Ends a session that can't be trusted any more. Its unanswered calls fail, and are sent again over another. */
  drop(reason: string): void {
    this.#session?.drop(reason);
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
    // Terminates: each round takes calls, or returns when there is no room for more.
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
    // An attempt has half of the deadline. Half of that is for the handshake, the rest is left for HTTP.
    const slowTimer = inBackground(deadlineMs / 4, () => {
      this.#isSlow = canFallBack;
      if (canFallBack) this.#sendByHttp();
    });
    openSocket(`${url.replace(/^http/, "ws")}/v1/session`, token, {
      onOpen: (socket) => {
        slowTimer.cancel();
        const onAnswer = () => this.#onAnswer();
        session = new Session(socket, { onAnswer, onEnd: (session) => this.#onEnd(session) });
        this.#onOpen(session);
      },
      onMessage: (data) => session?.receive(data),
      onEnd: (end) => {
        slowTimer.cancel();
        if (session) session.end(end);
        else this.#onOpenFailed(end);
      },
    });
  }

  #onOpen(session: Session): void {
    this.#isOpening = false;
    this.#isSlow = false;
    this.#openError = undefined;
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
    // An idle connection had died unnoticed. Reopen at once, so that the next call need not wait.
    if (session.isPinged) this.#openAtMs = 0;
    if (session.isPinged || this.#waiting.length > 0) this.#open();
  }

  /** No session could be opened. */
  #onOpenFailed({ reason, status }: SocketEnd): void {
    this.#isOpening = false;
    this.#isSlow = false;
    this.#failures += 1;
    this.#pause();
    this.#fallBack(false);
    // Calls that can't go by HTTP fail. A rejected token is the service's answer to them.
    const error = new UnavailableError(`${this.options.url}/v1/session can't be reached: ${reason || "no WebSocket"}`);
    this.#openError = error;
    for (const call of this.#waiting.splice(0)) {
      if (status === 401 || status === 403) call.answer(refusalOf(""));
      else call.fail(error);
    }
  }

  /** Delays the next handshake. */
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
    const error = this.#openError ?? new UnavailableError("no answer within the time of an attempt");
    for (const call of late) call.fail(error);
    this.#waiting = this.#waiting.filter(({ isDone }) => !isDone);
    this.#session?.dropIfUnresponsive();
  }
}

/** Runs `work` after the turn of the event loop and its microtasks, so that all calls of the turn share a message. */
function afterTurn(work: () => void): void {
  const { setImmediate } = globalThis as { readonly setImmediate?: (work: () => void) => void };
  if (setImmediate) setImmediate(work);
  else setTimeout(work, 0);
}
