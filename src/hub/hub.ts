import { DurableObject } from "cloudflare:workers";
import { logFault, logFaultsLeftOut } from "../fault";
import { SESSION_PROTOCOL, sessionTokenOf } from "../http/auth";
import { requestsInFlight } from "../http/in-flight";
import type { CallQueues } from "../objects/call-queue";
import { countsIn, type Env, serviceOf } from "../service";
import { Session } from "./session";

/** What a socket remembers while the hub is out of memory. */
interface Attachment {
  /** The digest of the token that opened the session. An attachment holds 2,048 bytes; a token may be longer. */
  readonly token: string;
}

/**
 * The Durable Object in which sessions end. All sessions of a hub share its call queues, so an object is called once for
 * what all of them ask at a time. Sockets hibernate: an idle session costs nothing, and pings do not wake the hub.
 *
 * A hub stores nothing but an alarm. When it ends, so do its sessions; clients open others and send again what was not answered.
 */
export class HubObject extends DurableObject<Env> {
  readonly #sessions = new Map<WebSocket, Session>();
  #queues: CallQueues | undefined;
  /** When the alarm rings that sends counts. */
  #alarmAtMs = Number.NEGATIVE_INFINITY;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
  }

  /** The environment that decides: a clock for tests is put in its place where there is one. */
  protected get environment(): Env {
    return this.env;
  }

  /** Opens a session. Only the Worker reaches a hub, and has checked the token (`http/session.ts`). */
  override async fetch(request: Request): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    const { token, isOffered } = sessionTokenOf(request.headers);
    const digest = serviceOf(this.environment).tokens.find(token ?? "")?.sha256 ?? "";
    server.serializeAttachment({ token: digest } satisfies Attachment);
    const headers = isOffered ? { "Sec-WebSocket-Protocol": SESSION_PROTOCOL } : {};
    return new Response(null, { status: 101, webSocket: client, headers });
  }

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    if (requestsInFlight.isClosed) return closeSocket(socket, SERVICE_RESTART);
    await requestsInFlight.count(() => this.#sessionOf(socket).receive(message));
    this.#sendCounts();
    logFaultsLeftOut();
  }

  /** Sends the counts of messages after which no others came. */
  override async alarm(): Promise<void> {
    this.#alarmAtMs = Number.NEGATIVE_INFINITY;
    const counts = countsIn(this.environment);
    if (!counts || counts.isEmpty) return;
    await counts.send();
    if (!counts.isEmpty) this.#wakeAt(Math.max(counts.dueMs, Date.now() + ALARM_MS));
  }

  /** Ends all sessions before the service stops. Their clients open others when it is back. */
  endSessions(): void {
    for (const socket of this.ctx.getWebSockets()) closeSocket(socket, SERVICE_RESTART);
    this.#sessions.clear();
  }

  /** Answers the close. The runtime does not do so for a socket that may hibernate, and the client would wait. */
  override webSocketClose(socket: WebSocket, code: number): void {
    this.#sessions.delete(socket);
    closeSocket(socket, code);
  }

  override webSocketError(socket: WebSocket): void {
    this.#sessions.delete(socket);
  }

  /** Sends counts when they are due, without a timer, which would keep the hub from hibernating. */
  #sendCounts(): void {
    const counts = countsIn(this.environment);
    if (!counts || counts.isEmpty) return;
    const nowMs = Date.now();
    if (nowMs >= counts.dueMs) this.ctx.waitUntil(counts.send());
    else if (nowMs >= this.#alarmAtMs) this.#wakeAt(nowMs + ALARM_MS);
  }

  /** Answers that leave meanwhile need not wait for the alarm to be durable. */
  #wakeAt(atMs: number): void {
    this.#alarmAtMs = atMs;
    const setting = this.ctx.storage.setAlarm(atMs, { allowUnconfirmed: true });
    this.ctx.waitUntil(setting.catch((error: unknown) => logFault("alarm_not_set", error, { of: "hub" })));
  }

  #sessionOf(socket: WebSocket): Session {
    const existing = this.#sessions.get(socket);
    if (existing) return existing;
    const service = serviceOf(this.environment);
    this.#queues ??= service.limiter.callQueues();
    const { token: digest } = socket.deserializeAttachment() as Attachment;
    // Tokens are configured anew only by a deploy, which ends the hub.
    const token = service.tokens.withDigest(digest);
    const session = new Session(socket, service, this.#queues, token, (work) => this.ctx.waitUntil(work));
    this.#sessions.set(socket, session);
    return session;
  }
}

/** A hub that is idle for ten seconds leaves memory, with its counts. The alarm rings before. */
const ALARM_MS = 8_000;

const SERVICE_RESTART = 1_012;
/** Codes that only a peer's runtime may use: https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1 */
const UNSENDABLE = [1004, 1005, 1006, 1015];

function closeSocket(socket: WebSocket, code: number): void {
  try {
    socket.close(UNSENDABLE.includes(code) || code < 1000 || code > 4999 ? 1000 : code);
  } catch {
    // The runtime has closed it already.
  }
}
