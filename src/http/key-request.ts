import type { IRequest } from "itty-router";
import type { Config } from "../config/config";
import { DEFAULT_EVENTS, MOST_DENIALS, MOST_EVENTS } from "../request/admin-schema";
import { Refusal } from "../request/refusal";
import { mistakeInKey, normalKey } from "../request/subject";
import { Problem } from "./problem";
import { numberIn, readQuery } from "./query";

/**
 * The key in the path, decoded.
 * @throws Refusal `invalid`, or a Problem 400 that links to the normal form of the key
 */
export function keyOf(request: IRequest, { ipv6PrefixBits }: Pick<Config, "ipv6PrefixBits">): string {
  const key = decodedKey(request);
  const mistake = mistakeInKey(key, ipv6PrefixBits);
  if (mistake === undefined) return key;
  const normal = normalKey(key, ipv6PrefixBits);
  throw normal.ok ? notNormal(request, mistake, normal.value) : invalidKey(mistake);
}

/** The link spares callers to work out the normal form, which depends on the configuration. */
function notNormal({ url, params }: IRequest, mistake: string, key: string): Problem {
  const path = new URL(url).pathname.replace(params.key ?? "", encodeURIComponent(key));
  return new Problem(400, "Bad Request", `The key in the path ${mistake}.`, { Link: `<${path}>; rel="canonical"` });
}

/** Decodes the key in the path. @throws Refusal `invalid` if that fails. */
export function decodedKey({ params }: IRequest): string {
  try {
    return decodeURIComponent(params.key ?? "");
  } catch {
    throw invalidKey("must be percent-encoded UTF-8");
  }
}

function invalidKey(mistake: string): Refusal {
  return new Refusal("invalid", `The key in the path ${mistake}.`);
}

/**
 * How many events of each counter the query asks for, and how many denials of the key.
 * @throws Refusal `invalid`
 */
export function inspectionOf({ url }: IRequest): { events: number; denials?: number | undefined } {
  return readQuery(url, {
    events: numberIn({ least: 0, most: MOST_EVENTS }).default(DEFAULT_EVENTS),
    denials: numberIn({ least: 0, most: MOST_DENIALS }).optional(),
  });
}
