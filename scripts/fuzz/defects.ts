import type { Chance } from "../../tools/chance";
import { hostileJson, mutatedBytes, TEXTS } from "./hostile";
import {
  AUTHORIZATIONS,
  CONTENT_TYPES,
  contentLengths,
  HOST_HEADERS,
  KEYS,
  QUERIES,
  TARGETS,
  TRANSFER_CODINGS,
} from "./lists";
import { type RawRequest, setHeader } from "./request";

/** Makes a request wrong, or merely strange. The runtime itself answers a request that breaks HTTP. */
export interface Defect {
  readonly name: string;
  readonly breaksHttp: boolean;
  apply(request: RawRequest, chance: Chance): void;
}

const latin1 = (text: string) => Buffer.from(text, "utf8").toString("latin1");
/** The text without the characters that end a header. */
const inLine = (text: string) => latin1(text).replace(/[\r\n\0]/g, "?");

const body = (name: string, make: (text: string, chance: Chance) => Buffer | string): Defect => ({
  name,
  breaksHttp: false,
  apply(request, chance) {
    request.body = Buffer.from(make(request.body.toString(), chance));
    if (request.framing === "none") request.framing = "length";
  },
});

const header = (name: string, header: string, value: (chance: Chance) => string[], breaksHttp = false): Defect => ({
  name,
  breaksHttp,
  apply: (request, chance) => setHeader(request, header, ...value(chance)),
});

const target = (name: string, make: (target: string, chance: Chance) => string): Defect => ({
  name,
  breaksHttp: false,
  apply(request, chance) {
    request.target = make(request.target, chance);
  },
});

/** Lies about where the body ends. */
const framing = (name: string, headers: (length: number, chance: Chance) => [string, string][]): Defect => ({
  name,
  breaksHttp: true,
  apply(request, chance) {
    const isChunked = chance.is(0.5);
    const length = request.body.length;
    if (isChunked)
      request.body = Buffer.from(`${length.toString(16)}\r\n${request.body.toString("latin1")}\r\n0\r\n\r\n`, "latin1");
    request.framing = "none";
    request.headers.push(...headers(length, chance));
  },
});

export const DEFECTS: readonly Defect[] = [
  body("JSON hostile", hostileJson),
  body("JSON hostile", hostileJson),
  body("bytes mutated", (text, chance) => mutatedBytes(Buffer.from(text), chance)),
  body("byte order mark", (text) => `\ufeff${text}`),
  body("UTF-16", (text) => Buffer.from(text, "utf16le")),
  body("invalid UTF-8", (text, chance) =>
    Buffer.concat([
      Buffer.from(text.slice(0, 12)),
      Buffer.from(chance.of([[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]])),
      Buffer.from(text.slice(12)),
    ]),
  ),
  body(
    "padded to a size",
    (text, chance) =>
      text + " ".repeat(Math.max(0, chance.of([8_192, 8_193, 65_536, 65_537, 300_000]) - Buffer.byteLength(text))),
  ),
  body("no body", () => ""),
  header("token", "Authorization", (chance) => chance.of(AUTHORIZATIONS)),
  header("type", "Content-Type", (chance) =>
    chance.of([[chance.of(CONTENT_TYPES)], [], ["application/json", "text/plain"]]),
  ),
  header("idempotency key", "Idempotency-Key", (chance) => [
    inLine(chance.of([...TEXTS, '"k"', "k", '"a"b"', "k, k", '"k";a=b', "a".repeat(128), "a".repeat(129)])),
  ]),
  header("attempt", "Idempotency-Attempt", (chance) => [chance.of(["1", "0", "-1", "1.0", "x", "", "999999999999"])]),
  header("encoding", "Content-Encoding", (chance) => [chance.of(["gzip", "identity", "br", "deflate, gzip", ""])]),
  header("expectation", "Expect", (chance) => [chance.of(["100-continue", "200-ok", ""])]),
  header("negotiation", "Accept", (chance) => [inLine(chance.of(["text/html", "*/*;q=0", "image/*", ...TEXTS]))]),
  header("method override", "X-HTTP-Method-Override", () => ["DELETE"]),
  header("forwarding", "X-Forwarded-For", (chance) => [inLine(chance.of(TEXTS))]),
  header("upgrade", "Upgrade", (chance) => [chance.of(["websocket", "h2c", "TLS/1.0"])]),
  header("range", "Range", () => ["bytes=0-1,5-"]),
  {
    name: "many headers",
    breaksHttp: true,
    apply: (request, chance) => {
      for (let i = chance.of([50, 2_000, 9_000]); i > 0; i--) request.headers.push(["X-Filler", "0123456789"]);
    },
  },
  header(
    "host",
    "Host",
    (chance) => chance.of([[], ["a", "b"], [latin1(chance.of(HOST_HEADERS))], [latin1(chance.of(HOST_HEADERS))]]),
    true,
  ),
  {
    name: "header name",
    breaksHttp: true,
    apply: (request, chance) => {
      request.headers.push([inLine(chance.of([...TEXTS, "a b", "a(", "a\t", "content-length ", "é"])), "x"]);
    },
  },
  {
    name: "header value",
    breaksHttp: true,
    apply: (request, chance) => {
      request.headers.push([
        "X-Value",
        latin1(chance.of([...TEXTS, "a\r\n b", "a\rb", "a\nb: c", "a\r\n\r\nGET / HTTP/1.1"])),
      ]);
    },
  },
  framing("Content-Length", (length, chance) => [["Content-Length", chance.of(contentLengths(length))]]),
  framing("Content-Length twice", (length, chance) => [
    ["Content-Length", chance.of(contentLengths(length))],
    ["Content-Length", chance.of(contentLengths(length))],
  ]),
  framing("Transfer-Encoding", (_, chance) => [["Transfer-Encoding", chance.of(TRANSFER_CODINGS)]]),
  framing("both lengths", (length, chance) => [
    ["Content-Length", chance.of(contentLengths(length))],
    ["Transfer-Encoding", chance.of(TRANSFER_CODINGS)],
  ]),
  framing("space before a colon", (length, chance) => [
    [chance.of(["Transfer-Encoding ", "Content-Length "]), chance.of(["chunked", String(length)])],
  ]),
  {
    name: "chunks",
    breaksHttp: false,
    apply: (request) => {
      request.framing = "chunked";
    },
  },
  target("path", (_, chance) => chance.of(TARGETS)),
  target("query", (path, chance) => path + chance.of(QUERIES)),
  target("key", (_, chance) => chance.of(["/v1/keys/", "/v1/inline/keys/"]) + latin1(chance.of(KEYS))),
  target(
    "key that is text",
    (_, chance) => chance.of(["/v1/keys/user:", "/v1/inline/keys/"]) + encodeText(chance.of(TEXTS)),
  ),
  {
    name: "request target",
    breaksHttp: true,
    apply: (request, chance) => {
      request.target = chance.of([
        "*",
        "",
        "v1/consume",
        "http://evil/v1/consume",
        "limiter:443",
        "?",
        "/v1/consume /x",
        "\u0000",
        "/\u00ff",
        `/${"a".repeat(140_000)}`,
      ]);
    },
  },
  {
    name: "method that is none",
    breaksHttp: true,
    apply: (request, chance) => {
      request.method = chance.of(["FOO", "post", "", "P OST", "CONNECT", "GET\u0000", "A".repeat(5_000)]);
    },
  },
  {
    name: "version",
    breaksHttp: true,
    apply: (request, chance) => {
      request.version = chance.of(["HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTTP", "", "HTTP/1.1 x"]);
    },
  },
];

function encodeText(text: string): string {
  return text.isWellFormed() ? encodeURIComponent(text) : "%ed%a0%80";
}
