import { Chance } from "../../tools/chance";
import { DEFECTS } from "./defects";
import { doomedRequest } from "./doomed";
import { mutatedBytes, randomBytes } from "./hostile";
import { bytesOf, CALLER_TOKEN, inParts, type RawRequest, requestTo } from "./request";
import { type SessionCase, sessionCase } from "./session-cases";
import type { Sent } from "./wire";

/** What is sent over one connection. The seed and the number alone make it. */
export interface Case extends Sent {
  readonly kind: "requests";
  /** Names the defects. */
  readonly description: string;
  /** A user of this case alone. A defect may have changed the user in the request. */
  readonly user: string;
  /** The request must be refused. It names a witness, a subject whose counters must not change. */
  readonly isDoomed: boolean;
  /** The bytes may not be valid HTTP, so that the runtime answers before the service sees them. */
  readonly breaksHttp: boolean;
}

export const POLICY = "fuzz";
export const WITNESSES = 20;
export const witnessOf = (i: number) => ({ user: `witness-${i}`, ip: `192.0.2.${i}` });

const ONE_IN_STALLS = 500;
const SHARE_OF_SESSIONS = 0.2;

export function caseOf(seed: number, number: number): Case | SessionCase {
  const chance = new Chance(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b));
  // The suffix keeps a mutated user from being the user of another case.
  const user = `f${number}-${chance.below(2 ** 31).toString(36)}`;
  if (number % ONE_IN_STALLS === 1) return stalled(user, chance);
  if (chance.is(SHARE_OF_SESSIONS)) {
    const witness = witnessOf(chance.below(WITNESSES));
    return sessionCase({ policy: POLICY, user, witness }, chance);
  }
  if (chance.is(0.25)) return doomed(user, chance);
  if (chance.is(0.05)) return garbage(user, chance);
  return defective(user, chance);
}

function stalled(user: string, chance: Chance): Case {
  const whole = bytesOf(requestOf(user, chance));
  const parts = [whole.subarray(0, 1 + chance.below(whole.length - 1))];
  return { kind: "requests", description: "stalled", user, isDoomed: false, breaksHttp: true, parts, ending: "stall" };
}

function doomed(user: string, chance: Chance): Case {
  const { description, request, breaksHttp } = doomedRequest(witnessOf(chance.below(WITNESSES)), chance);
  const parts = inParts(bytesOf(request), chance);
  return { kind: "requests", description, user, isDoomed: true, breaksHttp, parts, ending: "end" };
}

function garbage(user: string, chance: Chance): Case {
  const parts = inParts(randomBytes(chance, 1 + chance.below(400)), chance);
  return { kind: "requests", description: "garbage", user, isDoomed: false, breaksHttp: true, parts, ending: "end" };
}

/** A request with up to two defects, sometimes followed by another on the same connection, sometimes cut off. */
function defective(user: string, chance: Chance): Case {
  const requests = Array.from({ length: chance.is(0.1) ? 2 : 1 }, () => requestOf(user, chance));
  const names: string[] = [];
  let breaksHttp = false;
  for (const request of requests)
    for (let i = chance.of([0, 1, 1, 1, 2]); i > 0; i--) {
      const defect = chance.of(DEFECTS);
      defect.apply(request, chance);
      names.push(defect.name);
      breaksHttp ||= defect.breaksHttp;
    }
  const lineEnd = chance.is(0.02) ? chance.of(["\n", "\r", "\r\r\n"]) : "\r\n";
  let bytes: Buffer = Buffer.concat(requests.map((request) => bytesOf(request, lineEnd)));
  if (lineEnd !== "\r\n") names.push("line ends");
  if (chance.is(0.1)) {
    bytes = mutatedBytes(bytes, chance);
    names.push("bytes of the request mutated");
  }
  const isCut = chance.is(0.05);
  if (isCut) bytes = bytes.subarray(0, chance.below(bytes.length));
  return {
    kind: "requests",
    description: names.join(", ") || "nothing",
    user,
    isDoomed: false,
    breaksHttp: breaksHttp || isCut || names.includes("line ends") || names.includes("bytes of the request mutated"),
    parts: inParts(bytes, chance),
    ending: isCut && chance.is(0.5) ? "drop" : "end",
  };
}

/** A valid request about this user. */
function requestOf(user: string, chance: Chance): RawRequest {
  const subject = { user, ip: `10.${chance.below(256)}.${chance.below(256)}.${chance.below(256)}` };
  const about = { policy: chance.is(0.9) ? POLICY : "chat", subject };
  const layers = [{ name: "l", key: user, limits: ["5/minute", "100 per 2 hours"] }];
  const id = `id-${chance.below(1_000)}`;
  // By layer too, of the policy or not.
  const byLayer = { caller: chance.below(3), ip: chance.below(3), ...(chance.is(0.1) && { l: chance.below(3) }) };
  const cost = chance.is(0.7) ? 1 + chance.below(5) : byLayer;
  const token = chance.is(0.7) ? CALLER_TOKEN : undefined;
  const post = (path: string, body: unknown) => requestTo("POST", path, body, token);
  const consume = () => {
    const request = post("/v1/consume", { ...about, cost });
    if (chance.is(0.5)) request.headers.push(["Idempotency-Key", `"${id}"`]);
    if (chance.is(0.2)) request.headers.push(["Idempotency-Attempt", "1"]);
    return request;
  };
  const batch = () =>
    post("/v1/batch", {
      headers: chance.is(0.5),
      requests: Array.from({ length: 1 + chance.below(6) }, () =>
        chance.of([
          { op: "consume", idempotency_key: id, ...about, cost },
          { op: "consume", ...about },
          { op: "check", ...about },
          { op: "settle", id, ...about, cost },
          { op: "release", id, ...about },
        ]),
      ),
    });
  const key = encodeURIComponent(`user:${user}`);
  return chance.of([
    consume,
    consume,
    consume,
    batch,
    batch,
    () => post("/v1/check", { ...about, cost }),
    () => post("/v1/settle", { ...about, id, cost: typeof cost === "number" ? cost - 1 : cost }),
    () => post("/v1/release", { ...about, id }),
    () => post("/v1/inline/consume", { layers, cost: chance.is(0.7) ? cost : { l: chance.below(3) } }),
    () => post("/v1/inline/check", { layers }),
    () => post("/v1/inline/settle", { layers, id, cost }),
    () => requestTo("GET", "/v1/policies", undefined, token),
    () => requestTo("GET", "/v1/session", undefined, token),
    () => requestTo("GET", chance.of([`/v1/stats?minutes=${chance.below(3)}`, "/metrics"]), undefined, token),
    () => requestTo("GET", `/console${chance.of(["", "/", "/main.js", "/console.css", "/icon.svg", "/nope"])}`),
    () => requestTo("GET", `/v1/keys/${key}?events=${chance.below(10)}`),
    () => requestTo("GET", `/v1/keys/${key}?denials=${chance.below(12)}`),
    () => requestTo("GET", `/v1/audit?key=${key}&limit=${chance.below(3)}`),
    () => requestTo("GET", `/v1/overrides?after=${key}&limit=${chance.below(3)}`),
    () => requestTo("DELETE", `/v1/keys/${key}`),
    () => requestTo("PUT", `/v1/keys/${key}/override`, overrideOf(chance)),
    () => requestTo("DELETE", `/v1/keys/${key}/override`),
    () => requestTo("DELETE", `/v1/inline/keys/${key}`, undefined, token),
  ])();
}

function overrideOf(chance: Chance): unknown {
  const about = { reason: "fuzzed", expires_in_seconds: 1 + chance.below(3) };
  const limits = [{ policy: POLICY, layer: "caller", limits: ["1/minute", "1 concurrent/minute"] }];
  return chance.of([
    { kind: "ban", ...about },
    { kind: "exempt", ...about },
    { kind: "limits", limits, ...about },
  ]);
}
