import { DeadlineError, within } from "../objects/deadline";
import { realTiming } from "../objects/timing";
import type { Idempotency } from "../request/read";
import { Refusal } from "../request/refusal";
import { Problem } from "./problem";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
const LONGEST_BYTES = 8 * 1_024;
export const LONGEST_BATCH_BYTES = 64 * 1_024;

/**
 * Reads Idempotency-Key, a string of structured fields (RFC 9651) or the same unquoted, and Idempotency-Attempt: how
 * often the caller has sent this key, if the caller made the key up itself.
 */
export function idempotencyOf({ headers }: Request): Idempotency {
  const key = headers
    .get("Idempotency-Key")
    ?.trim()
    .replace(/^"(.*)"$/, "$1");
  if (key === undefined) return {};
  return { key, attempt: headers.get("Idempotency-Attempt") === "1" ? 1 : undefined };
}

/** The parts of a request that its body is read from. */
type BodySource = Pick<Request, "headers" | "body" | "arrayBuffer">;

/** Time for the whole body to arrive: a client that sends half a body must not hold a request open. */
const LONGEST_WAIT_MS = 10_000;

/**
 * Reads the body of a request as JSON.
 * @throws Problem 415, 413 or 408, and Refusal `invalid` if the body is not JSON in UTF-8.
 */
export async function readJson(
  request: BodySource,
  longestBytes = LONGEST_BYTES,
  timing = realTiming,
): Promise<unknown> {
  const { headers } = request;
  const type = headers.get("Content-Type") ?? "";
  if (!/^application\/json[ \t]*(;|$)/i.test(type))
    throw new Problem(415, "Unsupported Media Type", "Send Content-Type: application/json.", {
      Accept: "application/json",
    });
  if (headers.has("Content-Encoding"))
    throw new Problem(415, "Unsupported Media Type", "Send the body without a Content-Encoding.", {
      "Accept-Encoding": "identity",
    });
  const announced = headers.get("Content-Length");
  if (announced !== null && Number(announced) > longestBytes) throw tooLarge(longestBytes);
  // Request smuggling: a proxy may have framed the body by the other header.
  if (announced !== null && headers.has("Transfer-Encoding"))
    throw new Refusal("invalid", "The request has both Content-Length and Transfer-Encoding. Send one of them.");
  const bytes = await within(LONGEST_WAIT_MS, readBytes(request, longestBytes), timing).catch(throwUnreadable);
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch {
    throw new Refusal("invalid", "The body is not valid JSON in UTF-8.");
  }
}

/** Stops at the bound if no length was announced. Otherwise the runtime stops at the announced length. */
async function readBytes(request: BodySource, longestBytes: number): Promise<Uint8Array> {
  if (request.headers.has("Content-Length")) return new Uint8Array(await request.arrayBuffer());
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > longestBytes) throw tooLarge(longestBytes);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Reading fails only because of the client: a malformed body, or one that never ends. */
function throwUnreadable(error: unknown): never {
  if (error instanceof Problem) throw error;
  if (error instanceof DeadlineError)
    throw new Problem(408, "Request Timeout", `The body did not arrive within ${LONGEST_WAIT_MS / 1_000} s.`);
  throw new Refusal("invalid", "The body ends early, or its chunks are malformed.");
}

function tooLarge(longestBytes: number): Problem {
  return new Problem(413, "Content Too Large", `The body has more than ${longestBytes} bytes. Send a smaller one.`);
}
