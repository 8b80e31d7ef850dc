import type { Chance } from "../../tools/chance";
import { BINARY, bytesOfFrame, CONTINUATION, closeFrame, type Frame, PING, TEXT } from "./frames";
import { hostileJson, mutatedBytes, randomBytes, TEXTS } from "./hostile";
import { bytesOf, CALLER_TOKEN, handshake, inParts, setHeader } from "./request";
import type { SentSession } from "./session-wire";

/** A session, and what is sent over it. The seed and the number alone make it. */
export interface SessionCase extends SentSession {
  readonly kind: "session";
  /** Names what is wrong with it. */
  readonly description: string;
  /** A user of this case alone. */
  readonly user: string;
  /** How many messages must be refused. They name a witness, a subject whose counters must not change. */
  readonly doomed: number;
  /** The code that the server must close with, undefined if the client closes or any code is right. */
  readonly endsWith?: number;
  /** The handshake may be refused. */
  readonly breaksHandshake: boolean;
}

interface Subject {
  readonly user: string;
  readonly ip: string;
}

interface World {
  readonly policy: string;
  readonly user: string;
  readonly witness: Subject;
}

const LONGEST_BYTES = 65_536;
const TOO_LONG = 1_009;
const MOST_REQUESTS = 100;

const text = (payload: Buffer | string): Buffer => bytesOfFrame({ opcode: TEXT, payload: Buffer.from(payload) });
const binary = (payload: Buffer | string): Buffer => bytesOfFrame({ opcode: BINARY, payload: Buffer.from(payload) });

/** A session with right and wrong messages, or one that breaks the protocol of WebSockets. */
export function sessionCase(world: World, chance: Chance): SessionCase {
  return chance.of([wellFramed, wellFramed, wellFramed, wellFramed, tooLong, protocolBroken, handshakeBroken])(
    world,
    chance,
  );
}

interface Sent {
  readonly name: string;
  /** The bytes of complete messages, each of which has an answer. */
  readonly frames: readonly Buffer[];
  readonly answers?: number;
  readonly isDoomed?: boolean;
}

function wellFramed(world: World, chance: Chance): SessionCase {
  let nextId = chance.of([0, 0, 1, 2 ** 53 - 100]);
  const sent = Array.from({ length: 1 + chance.below(6) }, () => messageOf(world, nextId++, chance));
  return {
    ...caseOf(world, sent.map(({ name }) => name).join(", ")),
    parts: inParts(Buffer.concat(sent.flatMap(({ frames }) => frames)), chance),
    answers: sent.reduce((sum, { answers = 1 }) => sum + answers, 0),
    doomed: sent.filter(({ isDoomed }) => isDoomed).length,
  };
}

function tooLong(world: World, chance: Chance): SessionCase {
  const first = JSON.stringify(validMessage(world, 0, chance));
  const length = LONGEST_BYTES + chance.of([1, 2, 4_000, 300_000]);
  // Counted in characters, the second one is short enough.
  const filler = chance.is(0.5) ? " " : "é";
  const long = doomedText(world, (message) => JSON.stringify({ ...message, note: filler.repeat(length >> 1) }));
  const payload = Buffer.from(long + " ".repeat(Math.max(0, length - Buffer.byteLength(long))));
  const isBinary = chance.is(0.2);
  return {
    ...caseOf(world, isBinary ? "a binary message that is too long" : "a message that is too long"),
    parts: inParts(Buffer.concat([text(first), isBinary ? binary(payload) : text(payload), text(first)]), chance),
    answers: undefined,
    endsWith: TOO_LONG,
  };
}

/** After the first wrong byte anything may come, but no decision about the witness. */
function protocolBroken(world: World, chance: Chance): SessionCase {
  const right = Buffer.from(JSON.stringify(validMessage(world, 0, chance)));
  const doomed = Buffer.from(doomedText(world));
  const frame = (more: Partial<Frame>): Buffer => bytesOfFrame({ opcode: TEXT, payload: doomed, ...more });
  const [name, bytes] = chance.of<[string, Buffer]>([
    ["reserved bits", frame({ reserved: 1 + chance.below(7) })],
    ["an opcode that is none", frame({ opcode: chance.of([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) })],
    ["a continuation of nothing", frame({ opcode: CONTINUATION })],
    ["a message in a message", Buffer.concat([frame({ isFinal: false }), frame({})])],
    ["fragments without an end", Buffer.concat([frame({ isFinal: false }), frame({ opcode: 0, isFinal: false })])],
    ["a long ping", frame({ opcode: PING, payload: Buffer.alloc(126 + chance.below(500)) })],
    ["a ping in fragments", frame({ opcode: PING, payload: Buffer.alloc(3), isFinal: false })],
    ["cut short", frame({}).subarray(0, 1 + chance.below(frame({}).length - 1))],
    ["a length of 2^40", Buffer.concat([Buffer.from([0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0]), doomed])],
    ["a length of 2^63", Buffer.concat([Buffer.from([0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), doomed])],
    ["a close of one byte", bytesOfFrame({ opcode: 8, payload: Buffer.from([3]) })],
    ["a close in fragments", bytesOfFrame({ opcode: 8, payload: Buffer.from([3, 232]), isFinal: false })],
    ["a close with a code that is none", closeFrame(chance.of([0, 999, 1_004, 1_005, 1_006, 1_015, 5_000, 65_535]))],
    ["a close with a reason that is no UTF-8", closeFrame(1_000, Buffer.from([0xff, 0xc0]))],
    ["a close in the middle of a message", Buffer.concat([frame({ isFinal: false }), closeFrame(1_000)])],
    ["a message after the close", Buffer.concat([closeFrame(chance.of([1_000, 4_999])), frame({})])],
    ["random bytes", randomBytes(chance, 1 + chance.below(400))],
    ["mutated bytes", mutatedBytes(text(right), chance)],
  ]);
  const isAfterRight = chance.is(0.5);
  return {
    ...caseOf(world, name),
    parts: inParts(isAfterRight ? Buffer.concat([text(right), bytes]) : bytes, chance),
    answers: undefined,
  };
}

function handshakeBroken(world: World, chance: Chance): SessionCase {
  const request = handshake(CALLER_TOKEN);
  const [name, value] = chance.of<[string, string[]]>([
    ["Sec-WebSocket-Key", chance.of([[], [""], ["x"], ["a", "b"]])],
    ["Sec-WebSocket-Version", chance.of([[], ["12"], ["13, 12"], ["x"]])],
    ["Upgrade", chance.of([[], ["h2c"], ["websocket, h2c"], ["WebSocket"]])],
    ["Connection", chance.of([[], ["close"], ["keep-alive, Upgrade"]])],
    ["Authorization", chance.of([[], ["Bearer x"], ["Basic x"]])],
    [
      "Sec-WebSocket-Protocol",
      chance.of([["bearer.x"], ["exact-limiter.v1, bearer."], [""], [",,"], ["é"], ["a", "b"]]),
    ],
    ["Sec-WebSocket-Extensions", chance.of([["permessage-deflate"], ['x; y="z'], [""]])],
  ]);
  setHeader(request, name, ...value);
  return {
    ...caseOf(world, `handshake: ${name}`),
    handshake: bytesOf(request),
    parts: [text(JSON.stringify(validMessage(world, 0, chance)))],
    answers: 1,
    breaksHandshake: true,
  };
}

function caseOf({ user }: World, description: string) {
  const opened = bytesOf(handshake(CALLER_TOKEN));
  return { kind: "session", description, user, handshake: opened, doomed: 0, breaksHandshake: false } as const;
}

/** One or more messages with the id, right or wrong. */
function messageOf(world: World, id: number, chance: Chance): Sent {
  const right = () => JSON.stringify(validMessage(world, id, chance));
  return chance.of<() => Sent>([
    () => ({ name: "right", frames: [text(right())] }),
    () => ({ name: "right", frames: [text(right())] }),
    () => ({ name: "in fragments", frames: fragmentsOf(Buffer.from(right()), chance) }),
    () => ({
      name: "unmasked",
      frames: [bytesOfFrame({ opcode: TEXT, payload: Buffer.from(right()), isMasked: false })],
    }),
    () => ({
      name: "a long length",
      frames: [bytesOfFrame({ opcode: TEXT, payload: Buffer.from(right()), lengthBytes: 8 })],
    }),
    () => ({
      name: "the longest",
      frames: [
        text(Buffer.concat([Buffer.from(right()), Buffer.alloc(LONGEST_BYTES, 0x20)]).subarray(0, LONGEST_BYTES)),
      ],
    }),
    () => ({ name: "JSON hostile", frames: [text(hostileJson(right(), chance))] }),
    () => ({ name: "JSON hostile", frames: [text(hostileJson(right(), chance))] }),
    () => ({ name: "invalid UTF-8", frames: [text(invalidUtf8(right(), chance))] }),
    () => ({ name: "ping", frames: [text("ping")] }),
    () => sameIds(world, id, chance),
    () => (chance.is(0.05) ? tooManyRequests(world) : { name: "right", frames: [text(right())] }),
    () => doomedMessage(world, id, chance),
    () => doomedMessage(world, id, chance),
  ])();
}

function sameIds(world: World, id: number, chance: Chance): Sent {
  const length = 2 + chance.below(20);
  const frames = Array.from({ length }, () => text(JSON.stringify(validMessage(world, id, chance))));
  return { name: "the same id many times", frames, answers: length };
}

/** Some of these are above the number of requests that may be unanswered. */
function tooManyRequests(world: World): Sent {
  const check = { op: "check", policy: world.policy, subject: world.witness };
  const requests = Array.from({ length: MOST_REQUESTS }, () => check);
  const frames = Array.from({ length: 15 }, (_, i) => text(JSON.stringify({ id: 1_000_000 + i, requests })));
  return { name: "1,500 requests at once", frames, answers: frames.length };
}

/** A message that would change the witness if it were decided. */
function doomedMessage(world: World, id: number, chance: Chance): Sent {
  const wrongId = chance.of([-1, 1.5, 2 ** 53, "1", null, true, [], {}, [1]]);
  const wrong = chance.of([[], {}, null, "x", 5, Array.from({ length: MOST_REQUESTS + 1 }, () => ({}))]);
  const filler = chance.of(TEXTS);
  return chance.of<() => Sent>([
    () => refused("binary", binary(doomedText(world))),
    () => refused("an empty message", chance.of([text(""), binary("")])),
    () => refused("a text that is none", text(chance.of(["PING", " ping", "pingping", "pong", filler]))),
    () => refused("a wrong id", text(doomedText(world, (message) => JSON.stringify({ ...message, id: wrongId })))),
    () => refused("no id", text(doomedText(world, ({ requests }) => JSON.stringify({ requests })))),
    () => refused("no requests", text(JSON.stringify({ id, requests: wrong }))),
    () => refused("a list", text(doomedText(world, (message) => JSON.stringify([message])))),
    () => refused("an unknown field", text(doomedText(world, (m) => JSON.stringify({ ...m, id, [`x${filler}`]: 1 })))),
    () => refused("a wrong option", text(doomedText(world, (m) => JSON.stringify({ ...m, id, limits: filler })))),
    () => refused("cut short", text(doomedText(world).slice(0, -1))),
    () => refused("more after the end", text(`${doomedText(world)}{}`)),
    () => refused("a byte order mark", text(`\ufeff\ufeff${doomedText(world)}`)),
    () => refused("deep", text("[".repeat(chance.of([5_000, 30_000, LONGEST_BYTES])))),
  ])();
}

function refused(name: string, frame: Buffer): Sent {
  return { name, frames: [frame], isDoomed: true };
}

function doomedText(
  { policy, witness: subject }: World,
  change: (message: { id: number; requests: object[] }) => string = JSON.stringify,
): string {
  const requests = [
    { op: "consume", policy, subject },
    { op: "settle", policy, subject, id: "witnessed", cost: 0 },
  ];
  return change({ id: 0, requests });
}

/** A message about this case's user. */
function validMessage({ policy, user }: World, id: number, chance: Chance) {
  const subject = { user, ip: `10.${chance.below(256)}.${chance.below(256)}.${chance.below(256)}` };
  const cost = chance.is(0.7) ? 1 + chance.below(5) : { caller: chance.below(5), ip: chance.below(3) };
  const consume = { op: "consume", policy, subject, cost };
  const key = `id-${chance.below(1_000)}`;
  const requests = Array.from({ length: 1 + chance.below(4) }, () =>
    chance.of<object>([
      consume,
      consume,
      { ...consume, idempotency_key: key },
      { ...consume, idempotency_key: key, attempt: 1 },
      { op: "check", policy, subject },
      { op: "settle", policy, subject, id: "never-told", cost: 1 },
      { op: chance.of(TEXTS), policy, subject },
      { op: "consume", policy, subject: { user: chance.of(TEXTS), ip: subject.ip } },
      chance.of<object>([[], { op: "check" }]),
    ]),
  );
  return { id, requests, ...(chance.is(0.3) && { headers: chance.is(0.5) }) };
}

/** A message in two to five frames, sometimes with a ping between. */
function fragmentsOf(payload: Buffer, chance: Chance): Buffer[] {
  const frames: Buffer[] = [];
  let from = 0;
  for (let left = 1 + chance.below(4); left > 0; left--) {
    const to = from + chance.below(payload.length - from);
    frames.push(
      bytesOfFrame({
        opcode: from === 0 && frames.length === 0 ? TEXT : CONTINUATION,
        payload: payload.subarray(from, to),
        isFinal: false,
      }),
    );
    if (chance.is(0.3)) frames.push(bytesOfFrame({ opcode: PING, payload: Buffer.from("x") }));
    from = to;
  }
  return [...frames, bytesOfFrame({ opcode: CONTINUATION, payload: payload.subarray(from) })];
}

function invalidUtf8(json: string, chance: Chance): Buffer {
  const at = chance.below(json.length);
  const bytes = chance.of([[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]]);
  return Buffer.concat([Buffer.from(json.slice(0, at)), Buffer.from(bytes), Buffer.from(json.slice(at))]);
}
