/** Where HTTP works and no session can be had, calls go by HTTP for this time. */
const HTTP_MS = 60_000;
/** Where no session can be had and HTTP has not worked yet, calls go by HTTP for this time. */
const TRIAL_MS = 2_000;

/**
 * Decides when calls go by HTTP instead of a session. Most runtimes do not tell why a handshake has failed. So the
 * client asks by HTTP: if that works at the same time, a session can't be had here, and if not, this is an outage.
 */
export class Fallback {
  #httpUntilMs = 0;
  /** Calls go by HTTP, which has not worked yet. */
  #isTrial = false;
  /** Sessions can be opened, but do not answer. */
  #isMute = false;
  #connectingSinceMs = 0;
  #httpRepliedAtMs = 0;

  get isHttp(): boolean {
    return performance.now() < this.#httpUntilMs;
  }

  /** A handshake begins. */
  onConnect(): void {
    this.#connectingSinceMs = performance.now();
  }

  /** A session has answered. */
  onAnswer(): void {
    this.#isTrial = false;
    this.#isMute = false;
  }

  /** The handshake has failed, or session after session has ended without an answer: `isMute`. */
  onFailure(isMute: boolean): void {
    this.#isMute = isMute;
    this.#isTrial = true;
    this.#httpUntilMs = performance.now() + TRIAL_MS;
    // HTTP has worked during a handshake that was slow.
    if (!isMute && this.#httpRepliedAtMs > this.#connectingSinceMs) this.#useHttp();
  }

  /** HTTP has worked while there was no session. `wasTurnedAway`: for a call that no session could be had for. */
  onHttpReply(wasTurnedAway: boolean): void {
    if (wasTurnedAway || (this.#isTrial && this.#isMute)) this.#useHttp();
    // The service may have been starting when it refused the handshake.
    else if (this.#isTrial) this.#httpUntilMs = 0;
    this.#isTrial = false;
  }

  /** HTTP has worked during a handshake. */
  onHttpReplyMeanwhile(): void {
    this.#httpRepliedAtMs = performance.now();
  }

  #useHttp(): void {
    this.#isTrial = false;
    this.#httpUntilMs = performance.now() + HTTP_MS;
  }
}
