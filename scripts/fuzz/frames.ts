/** A frame of a WebSocket (RFC 6455, section 5.2), so that any part of it can be made wrong. */
export interface Frame {
  readonly opcode: number;
  readonly payload: Buffer;
  readonly isFinal?: boolean;
  /** The three bits that no extension gives a meaning here. */
  readonly reserved?: number;
  /** A client has to mask. */
  readonly isMasked?: boolean;
  /** Fewer bytes than needed are an error of the protocol too. */
  readonly lengthBytes?: 0 | 2 | 8;
}

export const CONTINUATION = 0;
export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;

/** Known to all, so that the seed alone makes the bytes. A mask has no secret here. */
const MASK = Buffer.from([0x5a, 0x01, 0xff, 0x80]);

export function bytesOfFrame({
  opcode,
  payload,
  isFinal = true,
  reserved = 0,
  isMasked = true,
  lengthBytes,
}: Frame): Buffer {
  const { length } = payload;
  const needed = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const extra = lengthBytes ?? needed;
  const head = Buffer.alloc(2 + extra);
  head[0] = (isFinal ? 0x80 : 0) | (reserved << 4) | opcode;
  head[1] = (isMasked ? 0x80 : 0) | (extra === 0 ? length & 0x7f : extra === 2 ? 126 : 127);
  if (extra === 2) head.writeUInt16BE(length & 0xffff, 2);
  if (extra === 8) head.writeBigUInt64BE(BigInt(length), 2);
  if (!isMasked) return Buffer.concat([head, payload]);
  const masked = payload.map((byte, i) => byte ^ (MASK[i & 3] as number));
  return Buffer.concat([head, MASK, masked]);
}

/** A frame that closes, with a code unless it is left out. */
export function closeFrame(code?: number, reason: Buffer = Buffer.alloc(0)): Buffer {
  const head = code === undefined ? Buffer.alloc(0) : Buffer.from([code >> 8, code & 0xff]);
  return bytesOfFrame({ opcode: CLOSE, payload: Buffer.concat([head, reason]) });
}

export interface ReceivedFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** The complete frames of a server, which masks none and sends each message in one. */
export function framesIn(bytes: Buffer): { frames: ReceivedFrame[]; rest: Buffer } {
  const frames: ReceivedFrame[] = [];
  let at = 0;
  for (;;) {
    const short = (bytes[at + 1] ?? 0) & 0x7f;
    const start = at + 2 + (short === 126 ? 2 : short === 127 ? 8 : 0);
    if (start > bytes.length) break;
    const length =
      short === 126 ? bytes.readUInt16BE(at + 2) : short === 127 ? Number(bytes.readBigUInt64BE(at + 2)) : short;
    if (start + length > bytes.length) break;
    frames.push({ opcode: (bytes[at] as number) & 0x0f, payload: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return { frames, rest: bytes.subarray(at) };
}
