import type { Chance } from "../../tools/chance";
import { ADMIN_TOKEN, bytesOf, CALLER_TOKEN, type RawRequest, requestTo, setHeader } from "./request";

interface Doomed {
  readonly description: string;
  readonly request: RawRequest;
  readonly breaksHttp: boolean;
}

/** A defect for which any request must be refused. */
interface FatalDefect {
  readonly description: string;
  readonly breaksHttp?: boolean;
  apply(request: RawRequest, chance: Chance): void;
}

const FATAL_DEFECTS: readonly FatalDefect[] = [
  { description: "no token", apply: (request) => setHeader(request, "Authorization") },
  {
    description: "a wrong token",
    apply: (request) => setHeader(request, "Authorization", `Bearer ${CALLER_TOKEN.slice(0, -1)}x`),
  },
  {
    description: "the beginning of a token",
    apply: (request) => setHeader(request, "Authorization", `Bearer ${ADMIN_TOKEN.slice(0, -1)}`),
  },
  {
    description: "two tokens",
    apply: (request) => setHeader(request, "Authorization", `Bearer ${ADMIN_TOKEN}`, `Bearer ${CALLER_TOKEN}`),
  },
  { description: "another scheme", apply: (request) => setHeader(request, "Authorization", `Basic ${ADMIN_TOKEN}`) },
  { description: "no type", apply: (request) => setHeader(request, "Content-Type") },
  {
    description: "a form's type",
    apply: (request) => setHeader(request, "Content-Type", "application/x-www-form-urlencoded"),
  },
  {
    description: "two types",
    apply: (request) => setHeader(request, "Content-Type", "application/json", "text/plain"),
  },
  { description: "an encoding", apply: (request) => setHeader(request, "Content-Encoding", "gzip") },
  { description: "too large", apply: (request, chance) => pad(request, chance.of([65_537, 100_000, 400_000]), chance) },
  {
    description: "more after the end",
    apply: (request) => (request.body = Buffer.concat([request.body, Buffer.from("{}")])),
  },
  { description: "cut short", apply: (request) => (request.body = request.body.subarray(0, -1)) },
  {
    description: "invalid UTF-8",
    apply: (request) => (request.body = Buffer.concat([Buffer.from('{"\xff":1,', "latin1"), request.body.subarray(1)])),
  },
  {
    description: "an unknown field",
    apply: (request) => (request.body = Buffer.from(request.body.toString().replace("{", '{"more":1,'))),
  },
  {
    description: "another path",
    apply: (request, chance) => (request.target += chance.of(["/", "x", "/x", "%2F", ";a"])),
  },
  {
    description: "another method",
    apply: (request, chance) => (request.method = chance.of(["PUT", "PATCH", "GET", "DELETE", "OPTIONS"])),
  },
  { description: "a method that is none", breaksHttp: true, apply: (request) => (request.method = "CONSUME") },
  {
    description: "a length and chunks",
    breaksHttp: true,
    apply(request) {
      request.framing = "chunked";
      request.headers.push(["Content-Length", String(bytesOf(request).length)]);
    },
  },
  {
    description: "a length and chunks, the length right",
    breaksHttp: true,
    apply(request) {
      request.framing = "chunked";
      request.headers.push(["Content-Length", String(request.body.length)]);
    },
  },
  {
    description: "a length that the body does not have",
    breaksHttp: true,
    apply(request, chance) {
      request.framing = "none";
      request.headers.push(["Content-Length", String(request.body.length + 1 + chance.below(50))]);
    },
  },
  {
    description: "a length twice",
    breaksHttp: true,
    apply: (request) => request.headers.push(["Content-Length", String(request.body.length)]),
  },
  {
    description: "a chunk that is none",
    breaksHttp: true,
    apply(request, chance) {
      request.framing = "none";
      request.headers.push(["Transfer-Encoding", "chunked"]);
      request.body = Buffer.concat([
        Buffer.from(chance.of(["zz\r\n", "-1\r\n", "ffffffffffffffff\r\n", "7f\r\n"])),
        request.body,
      ]);
    },
  },
];

/** A request with a fatal defect. Without the defect it would change a witness's counters. */
export function doomedRequest(subject: { user: string; ip: string }, chance: Chance): Doomed {
  const { description, breaksHttp = false, apply } = chance.of(FATAL_DEFECTS);
  const about = { policy: "fuzz", subject };
  const batch = {
    requests: [
      { op: "consume", ...about },
      { op: "settle", ...about, id: "witnessed", cost: 0 },
    ],
  };
  const request = chance.of([
    () => requestTo("POST", "/v1/consume", { ...about, cost: 2 }),
    () => requestTo("POST", "/v1/settle", { ...about, id: "witnessed", cost: 0 }),
    () => requestTo("POST", "/v1/batch", batch),
  ])();
  apply(request, chance);
  return { description: `refused for ${description}`, request, breaksHttp };
}

function pad(request: RawRequest, length: number, chance: Chance): void {
  request.body = Buffer.concat([request.body, Buffer.alloc(length - request.body.length, 0x20)]);
  if (chance.is(0.5)) request.framing = "chunked";
}
