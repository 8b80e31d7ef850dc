import type { Chance } from "../../tools/chance";

/** A request before it becomes bytes, so that any part of it can be made wrong. */
export interface RawRequest {
  method: string;
  target: string;
  version: string;
  headers: [name: string, value: string][];
  body: Buffer;
  /** How the body is framed: by its length, in chunks, or not at all. */
  framing: "length" | "chunked" | "none";
}

export const CALLER_TOKEN = "fuzz-caller-token";
export const ADMIN_TOKEN = "fuzz-admin-token";

/** A valid request. */
export function requestTo(method: string, target: string, body?: unknown, token = ADMIN_TOKEN): RawRequest {
  const hasBody = body !== undefined;
  return {
    method,
    target,
    version: "HTTP/1.1",
    headers: [
      ["Host", "limiter"],
      ["Authorization", `Bearer ${token}`],
      ...(hasBody ? ([["Content-Type", "application/json"]] as [string, string][]) : []),
    ],
    body: hasBody ? Buffer.from(typeof body === "string" ? body : JSON.stringify(body)) : Buffer.alloc(0),
    framing: hasBody ? "length" : "none",
  };
}

/** The request that opens a session. */
export function handshake(token: string): RawRequest {
  const request = requestTo("GET", "/v1/session", undefined, token);
  request.headers.push(
    ["Connection", "Upgrade"],
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Version", "13"],
    ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
  );
  return request;
}

export function bytesOf({ method, target, version, headers, body, framing }: RawRequest, lineEnd = "\r\n"): Buffer {
  const framed: [string, string][] = [];
  if (framing === "length") framed.push(["Content-Length", String(body.length)]);
  if (framing === "chunked") framed.push(["Transfer-Encoding", "chunked"]);
  const lines = [`${method} ${target} ${version}`, ...[...headers, ...framed].map(([n, v]) => `${n}: ${v}`), "", ""];
  const content = framing === "chunked" ? chunksOf(body) : body;
  return Buffer.concat([Buffer.from(lines.join(lineEnd), "latin1"), content]);
}

/** The body in two chunks, and the last chunk. */
function chunksOf(body: Buffer): Buffer {
  const middle = body.length >> 1;
  const pieces = [body.subarray(0, middle), body.subarray(middle)].filter(({ length }) => length > 0);
  const chunks = pieces.flatMap((piece) => [
    Buffer.from(`${piece.length.toString(16)}\r\n`),
    piece,
    Buffer.from("\r\n"),
  ]);
  return Buffer.concat([...chunks, Buffer.from("0\r\n\r\n")]);
}

export function setHeader(request: RawRequest, name: string, ...values: string[]): void {
  const isOther = ([other]: [string, string]) => other.toLowerCase() !== name.toLowerCase();
  request.headers = [...request.headers.filter(isOther), ...values.map((value): [string, string] => [name, value])];
}

/** Mostly whole, sometimes in two writes. */
export function inParts(bytes: Buffer, chance: Chance): Buffer[] {
  if (chance.is(0.8) || bytes.length < 2) return [bytes];
  const at = 1 + chance.below(bytes.length - 1);
  return [bytes.subarray(0, at), bytes.subarray(at)];
}
