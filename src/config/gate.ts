import * as z from "zod";
import { attributeSchema } from "./policies";

/** How `/v1/gate` reads the subject from the headers of a proxy. */
export interface Gate {
  /** The trusted proxies: the visitor's address is the entry at this place of X-Forwarded-For, counted from its end. */
  readonly hops: number | undefined;
  /** The header of each attribute that a header has. */
  readonly headers: ReadonlyMap<string, string>;
}

const HOPS = "hops";
const MOST_HOPS = 16;

/** The name of a field (RFC 9110). */
const HEADER = /^[\w!#$%&'*+.^`|~-]+$/;

/** The value of an attribute becomes a key, which admins and logs show. */
const SECRET = ["authorization", "cookie", "proxy-authorization", "x-limiter-token"];

/** `hops=1,user=X-User-Id`: how many proxies are trusted, and which attributes are in which headers. */
export const gateSchema = z.string("must be text, such as hops=1,user=X-User-Id").transform((text, context): Gate => {
  const headers = new Map<string, string>();
  let hops: number | undefined;
  for (const item of text.split(",").map((item) => item.trim())) {
    const [, name = "", value = ""] = /^([^=]*?)\s*=\s*(.*)$/s.exec(item) ?? [];
    const isTwice = name === HOPS ? hops !== undefined : headers.has(name);
    const mistake = isTwice ? `must not have ${name} twice` : mistakeIn(name, value);
    if (mistake !== undefined) context.addIssue({ code: "custom", message: `${JSON.stringify(item)} ${mistake}` });
    if (name === HOPS) hops = Number(value);
    else headers.set(name, value);
  }
  if (hops !== undefined && headers.has("ip"))
    context.addIssue({ code: "custom", message: "must have either hops or ip: both are the address" });
  return { hops, headers };
});

function mistakeIn(name: string, value: string): string | undefined {
  if (name === HOPS)
    return /^\d{1,2}$/.test(value) && Number(value) >= 1 && Number(value) <= MOST_HOPS
      ? undefined
      : `must be a whole number from 1 to ${MOST_HOPS}`;
  if (!attributeSchema.safeParse(name).success)
    return "must be hops=NUMBER or ATTRIBUTE=HEADER, the attribute 1 to 64 of a-z, 0-9 and _";
  if (!HEADER.test(value)) return "must have the name of a header after =";
  if (SECRET.includes(value.toLowerCase())) return "must not name a header with a secret: its value becomes a key";
  if (value.toLowerCase() === "x-forwarded-for") return "must not name X-Forwarded-For: use hops=";
  return undefined;
}
