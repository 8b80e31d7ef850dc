import { fieldsOf } from "./decision.js";

/** The subprotocol of sessions. */
const PROTOCOL = "exact-limiter.v1";

/** An open WebSocket. */
export interface Socket {
  send(text: string): void;
  /** Ends it with a close that the service answers. */
  close(): void;
  /** Gives it up, without waiting for anything. */
  drop(): void;
  /** Whether the socket keeps the process alive. Missing where that can't be set. */
  readonly hold?: ((isHeld: boolean) => void) | undefined;
  /** It keeps the process alive, and that can't be changed. */
  readonly isHeld: boolean;
}

/** Why a socket has ended, or was never opened. */
export interface SocketEnd {
  readonly code: number;
  readonly reason: string;
  /** The status of a refused handshake, where the runtime tells it. */
  readonly status: number | undefined;
}

export interface SocketEvents {
  readonly onOpen: (socket: Socket) => void;
  readonly onMessage: (data: unknown) => void;
  /** Called once, also if the socket was never opened. Not called after `drop`. */
  readonly onEnd: (end: SocketEnd) => void;
}

/** The fields of a WebSocket that the client uses: the platform's, or that of the package `ws`. */
interface RawSocket {
  onopen: unknown;
  onmessage: unknown;
  onerror: unknown;
  onclose: unknown;
  send(text: string): void;
  close(code?: number): void;
  /** Only in `ws`. */
  terminate?(): void;
  /** Only in `ws`. */
  once?(event: "upgrade", listener: (response: { readonly socket: NodeSocket }) => void): void;
}

interface NodeSocket {
  ref(): void;
  unref(): void;
}

type RawSocketClass = new (url: string, protocols: readonly string[], options?: object) => RawSocket;

/** Makes a WebSocket with a token. */
type Connect = (url: string, token: string) => RawSocket;

/** Not a literal, so that bundlers and compilers do not look for a package that may be missing. */
const PACKAGE = "ws";
const HANDSHAKE_MS = 10_000;
const ABNORMAL = 1_006;
const NORMAL = 1_000;

/**
 * Opens a WebSocket. In Node by the package `ws`, if it is installed: it can send the token in a header, tells the
 * status of a refusal, and need not keep the process alive. Else by the platform's WebSocket.
 */
export async function openSocket(url: string, token: string, events: SocketEvents): Promise<void> {
  try {
    const connect = (isNode() ? await packageConnect() : undefined) ?? platformConnect(token);
    if (!connect) return failed("The runtime has no WebSocket that can send this token.");
    listen(connect(url, token), events);
  } catch (error) {
    failed(String(fieldsOf(error).message));
  }

  function failed(reason: string): void {
    events.onEnd({ code: ABNORMAL, reason, status: undefined });
  }
}

function listen(raw: RawSocket, { onOpen, onMessage, onEnd }: SocketEvents): void {
  let stream: NodeSocket | undefined;
  let error = "";
  raw.once?.("upgrade", ({ socket }) => {
    stream = socket;
  });
  const drop = () => {
    clearTimeout(timer);
    raw.onopen = raw.onmessage = raw.onclose = null;
    // A socket that is dropped in its handshake still reports an error, which nobody waits for.
    raw.onerror = () => {};
    if (raw.terminate) raw.terminate();
    else raw.close();
  };
  const timer = setTimeout(() => {
    drop();
    onEnd({ code: ABNORMAL, reason: `no answer to the handshake within ${HANDSHAKE_MS} ms`, status: undefined });
  }, HANDSHAKE_MS);
  raw.onopen = () => {
    clearTimeout(timer);
    const hold = stream && ((isHeld: boolean) => (isHeld ? stream?.ref() : stream?.unref()));
    onOpen({ send: (text) => raw.send(text), close: () => raw.close(NORMAL), drop, hold, isHeld: !hold && isNode() });
  };
  raw.onmessage = ({ data }: { readonly data: unknown }) => onMessage(data);
  raw.onerror = ({ message }: { readonly message?: unknown }) => {
    error = typeof message === "string" ? message : "";
  };
  raw.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) => {
    clearTimeout(timer);
    const status = /^Unexpected server response: (\d{3})$/.exec(error)?.[1];
    onEnd({ code, reason: reason || error, status: status === undefined ? undefined : Number(status) });
  };
}

/** Connects by the package `ws`; undefined if it is not installed. */
async function packageConnect(): Promise<Connect | undefined> {
  const loaded: unknown = await import(/* @vite-ignore */ /* webpackIgnore: true */ PACKAGE).catch(() => undefined);
  const Package = fieldsOf(loaded).default as RawSocketClass | undefined;
  if (typeof Package !== "function") return undefined;
  return (url, token) =>
    new Package(url, [], { headers: { Authorization: `Bearer ${token}` }, perMessageDeflate: false });
}

/**
 * Connects by the platform's WebSocket, which sets no headers: the token goes as a subprotocol. Undefined if there is no
 * WebSocket, or if the token can't be a subprotocol: https://www.rfc-editor.org/rfc/rfc9110#name-tokens
 */
function platformConnect(token: string): Connect | undefined {
  const { WebSocket: Platform } = globalThis as unknown as { readonly WebSocket?: RawSocketClass };
  if (!Platform || !/^[\w!#$%&'*+.^`|~-]+$/.test(token)) return undefined;
  return (url, token) => new Platform(url, [PROTOCOL, `bearer.${token}`]);
}

/**
 * On Workers a WebSocket belongs to the request that opened it, and a client outlives its requests: the runtime cancels
 * the next request that waits for an answer of that socket. In a Durable Object a session works.
 * https://developers.cloudflare.com/workers/observability/errors/
 */
export function isWorker(): boolean {
  return userAgent() === "Cloudflare-Workers";
}

/** Deno and Bun have a `process` too, but another user agent. Node 20 has none. */
function isNode(): boolean {
  const { process } = globalThis as { readonly process?: { readonly versions?: { readonly node?: string } } };
  const agent = userAgent();
  return process?.versions?.node !== undefined && (agent === undefined || agent.startsWith("Node.js/"));
}

function userAgent(): string | undefined {
  return (globalThis as { readonly navigator?: { readonly userAgent?: string } }).navigator?.userAgent;
}
