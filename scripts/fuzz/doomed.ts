import type { Chance } from "../../tools/chance";
import { ADMIN_TOKEN, bytesOf, CALLER_TOKEN, type RawRequest, requestTo, setHeader } from "./request";

interface Doomed {
  readonly what: string;
  readonly request: RawRequest;
  readonly breaksHttp: boolean;
}

/** A change that leaves no doubt that a request is refused, whatever else there is to it. */
interface Doom {
  readonly what: string;
  readonly breaksHttp?: boolean;
  apply(request: RawRequest, chance: Chance): void;
}

const DOOMS: readonly Doom[] = [
  { what: "no token", apply: (request) => setHeader(request, "Authorization") },
  {
    what: "a wrong token",
    apply: (request) => setHeader(request, "Authorization", `Bearer ${CALLER_TOKEN.slice(0, -1)}x`),
  },
  {
    what: "the beginning of a token",
    apply: (request) => setHeader(request, "Authorization", `Bearer ${ADMIN_TOKEN.slice(0, -1)}`),
  },
  {
    what: "two tokens",
    apply: (request) => setHeader(request, "Authorization", `Bearer ${ADMIN_TOKEN}`, `Bearer ${CALLER_TOKEN}`),
  },
  { what: "another scheme", apply: (request) => setHeader(request, "Authorization", `Basic ${ADMIN_TOKEN}`) },
  { what: "no type", apply: (request) => setHeader(request, "Content-Type") },
  {
    what: "a form's type",
    apply: (request) => setHeader(request, "Content-Type", "application/x-www-form-urlencoded"),
  },
  { what: "two types", apply: (request) => setHeader(request, "Content-Type", "application/json", "text/plain") },
  { what: "an encoding", apply: (request) => setHeader(request, "Content-Encoding", "gzip") },
  { what: "too large", apply: (request, chance) => pad(request, chance.of([65_537, 100_000, 400_000]), chance) },
  { what: "more after the end", apply: (request) => (request.body = Buffer.concat([request.body, Buffer.from("{}")])) },
  { what: "cut short", apply: (request) => (request.body = request.body.subarray(0, -1)) },
  {
    what: "invalid UTF-8",
    apply: (request) => (request.body = Buffer.concat([Buffer.from('{"\xff":1,', "latin1"), request.body.subarray(1)])),
  },
  {
    what: "an unknown field",
    apply: (request) => (request.body = Buffer.from(request.body.toString().replace("{", '{"more":1,'))),
  },
  { what: "another path", apply: (request, chance) => (request.target += chance.of(["/", "x", "/x", "%2F", ";a"])) },
  {
    what: "another method",
    apply: (request, chance) => (request.method = chance.of(["PUT", "PATCH", "GET", "DELETE", "OPTIONS"])),
  },
  { what: "a method that is none", breaksHttp: true, apply: (request) => (request.method = "CONSUME") },
  {
    what: "a length and chunks",
    breaksHttp: true,
    apply(request) {
      request.framing = "chunked";
      request.headers.push(["Content-Length", String(bytesOf(request).length)]);
    },
  },
  {
    what: "a length and chunks, the length right",
    breaksHttp: true,
    apply(request) {
      request.framing = "chunked";
      request.headers.push(["Content-Length", String(request.body.length)]);
    },
  },
  {
    what: "a length that the body does not have",
    breaksHttp: true,
    apply(request, chance) {
      request.framing = "none";
      request.headers.push(["Content-Length", String(request.body.length + 1 + chance.below(50))]);
    },
  },
  {
    what: "a length twice",
    breaksHttp: true,
    apply: (request) => request.headers.push(["Content-Length", String(request.body.length)]),
  },
  {
    what: "a chunk that is none",
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

/** A call that would change a witness's counters, were it not for what is wrong with it. */
export function doomedRequest(subject: { user: string; ip: string }, chance: Chance): Doomed {
  const { what, breaksHttp = false, apply } = chance.of(DOOMS);
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
  return { what: `refused for ${what}`, request, breaksHttp };
}

function pad(request: RawRequest, length: number, chance: Chance): void {
  request.body = Buffer.concat([request.body, Buffer.alloc(length - request.body.length, 0x20)]);
  if (chance.is(0.5)) request.framing = "chunked";
}
