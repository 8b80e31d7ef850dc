import * as z from "zod";

/**
 * - `caller`: the calls that decide.
 * - `admin`: all calls.
 * - `metrics-only`: `GET /metrics`, which has no key of anybody.
 */
export const ROLES = ["caller", "admin", "metrics-only"] as const;
export type Role = (typeof ROLES)[number];

/** What is known of a token, except the token itself. */
export interface Token {
  /** What metrics and the audit call it. Tells nothing of the token itself. */
  readonly name: string;
  readonly role: Role;
  /** The policies that it may use, `inline` for inline limits. Undefined: all. */
  readonly policies: ReadonlySet<string> | undefined;
  /** It is refused from this instant on. Infinity: it has no end. */
  readonly endsAtMs: number;
}

/** A token that is configured by its digest. */
export interface TokenDigest extends Token {
  /** SHA-256 in hexadecimal, lower case. */
  readonly sha256: string;
}

/** Names of tokens and of policies. */
const NAME = /^[a-z][a-z0-9_-]{0,31}$/;
const SHAPE = "must be NAME ROLE [policies=POLICY+POLICY] [until=INSTANT] sha256:DIGEST";
const ENTRY = /^(\S+) (\S+)((?: (?:policies|until)=\S*)*) (sha256:\S+)$/;
const instant = z.iso.datetime({ offset: true });

/**
 * The tokens of `LIMITER_TOKEN_DIGESTS`, with commas or line breaks between them. No mistake repeats what was configured:
 * it may be a token where its digest belongs.
 */
export const tokenDigestsSchema = z
  .string(`must be text: each token ${SHAPE.slice("must be ".length)}`)
  .transform((text, context): TokenDigest[] => {
    const mistake = (message: string, ...path: number[]) => context.addIssue({ code: "custom", message, path });
    const entries = text
      .split(/[,\n]/)
      .map((entry) => entry.trim().replaceAll(/\s+/g, " "))
      .filter((entry) => entry !== "");
    const tokens = entries.map((entry, i) => {
      const { token, mistakes } = readEntry(entry);
      for (const message of mistakes) mistake(message, i);
      return token;
    });
    for (const [i, token] of tokens.entries()) {
      const message = token && conflictOf(token, tokens.slice(0, i));
      if (message) mistake(message, i);
    }
    return tokens.filter((token) => token !== undefined);
  });

interface ReadEntry {
  readonly token?: TokenDigest;
  readonly mistakes: readonly string[];
}

function readEntry(entry: string): ReadEntry {
  const [, name = "", role = "", options = "", digest = ""] = ENTRY.exec(entry) ?? [];
  if (name === "") return { mistakes: [SHAPE] };
  const given = [...options.matchAll(/ (policies|until)=(\S*)/g)].map(([, key, value]) => [key, value] as const);
  const { policies, until } = Object.fromEntries(given) as { readonly policies?: string; readonly until?: string };
  const sha256 = digest.slice("sha256:".length).toLowerCase();
  const rules: readonly (readonly [boolean, string])[] = [
    [NAME.test(name), "the name must be 1 to 32 of a-z, 0-9, _ and -, and begin with a letter"],
    [isRole(role), `the role must be one of ${ROLES.join(", ")}`],
    [given.length === new Set(given.map(([key]) => key)).size, "must have policies= and until= once at most"],
    [policies === undefined || policies.split("+").every((policy) => NAME.test(policy)), POLICIES],
    [policies === undefined || role === "caller", "only a caller token may have policies="],
    [until === undefined || instant.safeParse(until).success, "until= must be an instant, like 2030-01-01T00:00:00Z"],
    [/^[0-9a-f]{64}$/.test(sha256), "the digest must be sha256: and 64 hexadecimal digits, as npm run token prints it"],
  ];
  const mistakes = rules.flatMap(([holds, message]) => (holds ? [] : [message]));
  if (mistakes.length > 0 || !isRole(role)) return { mistakes };
  const endsAtMs = until === undefined ? Number.POSITIVE_INFINITY : Date.parse(until);
  const token = { name, role, policies: policies === undefined ? undefined : new Set(policies.split("+")), endsAtMs };
  return { token: { ...token, sha256 }, mistakes };
}

const POLICIES = "policies= must name policies with + between them, like policies=chat+upload";

/**
 * The mistake of a token beside those before it. Two tokens of one name are a rotation: callers move from the one that
 * ends to the other. Metrics and the audit take them for one, so they have one role.
 */
function conflictOf(
  { name, role, endsAtMs, sha256 }: TokenDigest,
  before: readonly (TokenDigest | undefined)[],
): string | undefined {
  const others = before.filter((other) => other !== undefined);
  if (others.some((other) => other.sha256 === sha256)) return "the digest must not be that of another token";
  const namesakes = others.filter((other) => other.name === name);
  if (namesakes.some((other) => other.role !== role)) return "must have the role of the other token of this name";
  if (endsAtMs === Number.POSITIVE_INFINITY && namesakes.some((other) => other.endsAtMs === endsAtMs))
    return "another token has this name: give the older of them its end, like until=2030-01-01T00:00:00Z";
  return undefined;
}

function isRole(text: string): text is Role {
  return (ROLES as readonly string[]).includes(text);
}

/** The text that `tokenDigestsSchema` reads. */
export function tokenLine({ name, role, policies, endsAtMs, sha256 }: TokenDigest): string {
  return [
    name,
    role,
    ...(policies ? [`policies=${[...policies].join("+")}`] : []),
    ...(Number.isFinite(endsAtMs) ? [`until=${new Date(endsAtMs).toISOString()}`] : []),
    `sha256:${sha256}`,
  ].join(" ");
}
