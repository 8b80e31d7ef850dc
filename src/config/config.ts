import * as z from "zod";
import { LARGEST_MAX } from "../core/limit";
import type { OnError, Policy } from "../core/policy";
import { type Gate, gateSchema } from "./gate";
import { ConfigError, mistakesOf } from "./mistake";
import { type Placement, placementSchema } from "./placement";
import { chatPolicy, modeSchema, onErrorSchema, readPolicies } from "./policies";
import { type TokenDigest, tokenDigestsSchema } from "./token-digests";

export type { Gate, Placement };

/** The configuration: read once, and valid as a whole. */
export interface Config {
  /** By name. `chat` is always present and comes first. */
  readonly policies: ReadonlyMap<string, Policy>;
  readonly ipv6PrefixBits: number;
  readonly placement: Placement;
  readonly locationHint: LocationHint | undefined;
  /** Where all objects run and store their data. */
  readonly jurisdiction: Jurisdiction | undefined;
  /** How many hubs a location has, in which sessions end. */
  readonly hubs: number;
  /** The deadline of a decision, with all its calls and retries. */
  readonly deadlineMs: number;
  /** How long a denial is cached at most. 0 caches nothing. */
  readonly denyCacheMs: number;
  /** The decision if an object is unreachable, for policies that do not say. */
  readonly onError: OnError;
  /** Callers may name limits in a request. */
  readonly inline: boolean;
  /** How `/v1/gate` reads the subject. Undefined: it is off. */
  readonly gate: Gate | undefined;
  /** Where counts go: to the stats objects, if they are bound, and to Analytics Engine; or there alone; or nowhere. */
  readonly counts: (typeof COUNTS)[number];
  /** The share of denials that is logged, from 0 to 1. */
  readonly logDenials: number;
  /** Denials are logged with keys instead of their digests. */
  readonly logKeys: boolean;
  readonly callerTokens: readonly string[];
  readonly adminTokens: readonly string[];
  readonly tokenDigests: readonly TokenDigest[];
}

/** Where Cloudflare creates objects: https://developers.cloudflare.com/durable-objects/reference/data-location/ */
const LOCATION_HINTS = ["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"] as const;
export type LocationHint = (typeof LOCATION_HINTS)[number];

/** The jurisdictions of Cloudflare, from the same page. `us` is newer than the types of the runtime. */
const JURISDICTIONS = ["eu", "us", "fedramp", "fedramp-high"] as const;
export type Jurisdiction = (typeof JURISDICTIONS)[number];
const COUNTS = ["objects", "analytics", "off"] as const;

/** A whole number. The environment gives variables as text, `wrangler.toml` also as numbers. */
function integer(smallest: number, largest: number, message = `must be a whole number from ${smallest} to ${largest}`) {
  return z
    .union([z.number(), z.string().trim().regex(/^\d+$/, message).transform(Number)], message)
    .refine((value) => Number.isInteger(value) && value >= smallest && value <= largest, message);
}

const zeroOrOne = integer(0, 1, "must be 0 or 1");

const shareSchema = z
  .union(
    [
      z.number(),
      z
        .string()
        .trim()
        .regex(/^\d*\.?\d+$/)
        .transform(Number),
    ],
    "must be a number from 0 to 1",
  )
  .refine((value) => value >= 0 && value <= 1, "must be a number from 0 to 1");

const tokensSchema = z
  .string("must be text: tokens with commas between them")
  .transform((text) =>
    text
      .split(",")
      .map((token) => token.trim())
      .filter((token) => token !== ""),
  )
  .refine(
    (list) => list.every((token) => /^[\x21-\x7e]+$/.test(token)),
    "every token must be visible ASCII characters without spaces",
  );

const variablesSchema = z.object({
  RATE_LIMIT_CHAT_PER_MIN: integer(1, LARGEST_MAX).default(5),
  RATE_LIMIT_CHAT_PER_HOUR: integer(1, LARGEST_MAX).default(60),
  RATE_LIMIT_CHAT_IP_PER_MIN: integer(1, LARGEST_MAX).default(30),
  RATE_LIMIT_CHAT_MODE: modeSchema.default("live"),
  RATE_LIMIT_CHAT_ON_ERROR: onErrorSchema.optional(),
  RATE_LIMIT_IPV6_PREFIX: integer(1, 128).default(64),
  LIMITER_PLACEMENT: placementSchema.default({ kind: "key" }),
  LIMITER_LOCATION_HINT: z.enum(LOCATION_HINTS, `must be one of ${LOCATION_HINTS.join(", ")}`).optional(),
  LIMITER_JURISDICTION: z.enum(JURISDICTIONS, `must be one of ${JURISDICTIONS.join(", ")}`).optional(),
  LIMITER_HUBS_PER_LOCATION: integer(1, 100).default(1),
  RATE_LIMIT_DEADLINE_MS: integer(1, 60_000).default(1_000),
  RATE_LIMIT_DENY_CACHE_MS: integer(0, 60_000).default(1_000),
  RATE_LIMIT_ON_ERROR: onErrorSchema.default("deny"),
  RATE_LIMIT_INLINE: zeroOrOne.default(0),
  LIMITER_GATE: gateSchema.optional(),
  LIMITER_COUNTS: z.enum(COUNTS, "must be objects, analytics or off").default("objects"),
  RATE_LIMIT_LOG_DENIALS: shareSchema.default(0),
  RATE_LIMIT_LOG_KEYS: zeroOrOne.default(0),
  LIMITER_TOKENS: tokensSchema.default([]),
  LIMITER_ADMIN_TOKENS: tokensSchema.default([]),
  LIMITER_TOKEN_DIGESTS: tokenDigestsSchema.default([]),
});

/** The names of all variables, to pick them from a process's environment. */
export const VARIABLE_NAMES = [...Object.keys(variablesSchema.shape), "RATE_LIMIT_POLICIES"];

/**
 * Reads the configuration from the variables of a Worker or a process. Other variables are ignored.
 * @throws ConfigError with all mistakes.
 */
export function readConfig(environment: Readonly<Record<string, unknown>>): Config {
  const set = Object.fromEntries(
    VARIABLE_NAMES.map((name) => [name, environment[name]]).filter(([, value]) => !isBlank(value)),
  );
  const read = variablesSchema.safeParse(set);
  const declared = readPolicies(set.RATE_LIMIT_POLICIES ?? {});
  const mistakes = [...mistakesOf(read.error), ...declared.mistakes];
  if (!read.success || mistakes.length > 0) throw new ConfigError(mistakes);

  const values = read.data;
  const chat = chatPolicy({
    perMinute: values.RATE_LIMIT_CHAT_PER_MIN,
    perHour: values.RATE_LIMIT_CHAT_PER_HOUR,
    ipPerMinute: values.RATE_LIMIT_CHAT_IP_PER_MIN,
    mode: values.RATE_LIMIT_CHAT_MODE,
    onError: values.RATE_LIMIT_CHAT_ON_ERROR,
  });
  const policies = [chat, ...declared.policies];
  return {
    policies: new Map(policies.map((policy) => [policy.name, policy])),
    ipv6PrefixBits: values.RATE_LIMIT_IPV6_PREFIX,
    placement: values.LIMITER_PLACEMENT,
    locationHint: values.LIMITER_LOCATION_HINT,
    jurisdiction: values.LIMITER_JURISDICTION,
    hubs: values.LIMITER_HUBS_PER_LOCATION,
    deadlineMs: values.RATE_LIMIT_DEADLINE_MS,
    denyCacheMs: values.RATE_LIMIT_DENY_CACHE_MS,
    onError: values.RATE_LIMIT_ON_ERROR,
    inline: values.RATE_LIMIT_INLINE === 1,
    gate: values.LIMITER_GATE,
    counts: values.LIMITER_COUNTS,
    logDenials: values.RATE_LIMIT_LOG_DENIALS,
    logKeys: values.RATE_LIMIT_LOG_KEYS === 1,
    callerTokens: values.LIMITER_TOKENS,
    adminTokens: values.LIMITER_ADMIN_TOKENS,
    tokenDigests: values.LIMITER_TOKEN_DIGESTS,
  };
}

/** A variable that is set but empty counts as not set. */
export function isBlank(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "string" && value.trim() === "");
}
