import { Refusal } from "../edge/refusal";
import type { Attempt } from "../edge/request";
import { Problem } from "./problem";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
const LONGEST_BYTES = 8 * 1_024;
export const LONGEST_BATCH_BYTES = 64 * 1_024;

/**
 * The value of an Idempotency-Key header, a string of structured fields (RFC 9651) or the same unquoted, and that of
 * Idempotency-Attempt, in which a caller that made its key up says how often it has sent it.
 */
export function attemptOf({ headers }: Request): Attempt {
  const idempotencyKey = headers
    .get("Idempotency-Key")
    ?.trim()
    .replace(/^"(.*)"$/, "$1");
  if (idempotencyKey === undefined) return {};
  return { idempotencyKey, attempt: headers.get("Idempotency-Attempt") === "1" ? 1 : undefined };
}

/**
 * The JSON value of a request's body.
 * @throws Problem 415 or 413, and Refusal `invalid` when it is not JSON in UTF-8.
 */
export async function readJson(request: Request, longestBytes = LONGEST_BYTES): Promise<unknown> {
  const type = request.headers.get("Content-Type") ?? "";
  if (!/^application\/json *(;|$)/i.test(type))
    throw new Problem(415, "Unsupported Media Type", "Send Content-Type: application/json.", {
      Accept: "application/json",
    });
  if (request.headers.has("Content-Encoding"))
    throw new Problem(415, "Unsupported Media Type", "Send the body without a Content-Encoding.", {
      "Accept-Encoding": "identity",
    });
  const bytes = await readBytes(request, longestBytes);
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch {
    throw new Refusal("invalid", "The body is not JSON in UTF-8.");
  }
}

/** Reads no further than the bound, whatever length was announced, or none. */
async function readBytes(request: Request, longestBytes: number): Promise<Uint8Array> {
  const announced = request.headers.get("Content-Length");
  if (announced !== null && Number(announced) <= longestBytes) return new Uint8Array(await request.arrayBuffer());
  if (announced !== null) throw tooLarge(longestBytes);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > longestBytes) throw tooLarge(longestBytes);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function tooLarge(longestBytes: number): Problem {
  return new Problem(413, "Content Too Large", `A body may have at most ${longestBytes} bytes.`);
}
