import * as z from "zod";
import { type Limit, parseLimit } from "../core/limit";
import { type Layer, limitName, type Mode, type OnError, Policy } from "../core/policy";
import { type Mistake, mistakesOf, must } from "./mistake";

export interface ChatLimits {
  readonly perMinute: number;
  readonly perHour: number;
  readonly ipPerMinute: number;
  readonly mode: Mode;
  readonly onError: OnError | undefined;
}

/** The built-in policy. */
export function chatPolicy({ perMinute, perHour, ipPerMinute, mode, onError }: ChatLimits): Policy {
  const minute = (max: number) => ({ max, windowMs: 60_000 });
  const layers: Layer[] = [
    { name: "caller", by: ["user", "ip"], limits: [minute(perMinute), { max: perHour, windowMs: 3_600_000 }], mode },
    { name: "ip", by: ["ip"], limits: [minute(ipPerMinute)], mode },
  ];
  return new Policy("chat", layers, onError);
}

const MAX_POLICIES = 32;

/** Names that no declared policy can have, and why. */
const RESERVED: Readonly<Record<string, string>> = {
  chat: "chat is built in: set it by the RATE_LIMIT_CHAT_… variables",
  inline: "inline is reserved for limits that callers name: choose another name",
};

const nameRule = "be a lower-case letter, then up to 31 of a-z, 0-9, _ and -";
export const nameSchema = z.string(must(nameRule)).regex(/^[a-z][a-z0-9_-]{0,31}$/, must(nameRule));

/** Bounded, so that a key (attribute and value) fits the 1,024 bytes of an object's name. */
const attributeRule = "be 1 to 64 of a-z, 0-9 and _";
export const attributeSchema = z
  .string(must(attributeRule))
  .regex(/^[a-z0-9_]{1,64}$/, must(attributeRule))
  .refine((name) => name !== "__proto__", must("not be __proto__"));

const limitSchema = z
  .string(must("be a limit, such as 10/minute"))
  .meta({ examples: ["10/minute", "2 per 5 seconds"] })
  .transform((text, context) => {
    try {
      return parseLimit(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as RangeError).message });
      return z.NEVER;
    }
  });

/**
 * A list of 1 to `maxItems` items that differ in `textOf`. Items are compared even if some are invalid: for an invalid
 * item `textOf` returns undefined, unless its text is certain.
 */
export function listOf<Item extends z.ZodType>(
  item: Item,
  maxItems: number,
  textOf: (value: Partial<z.output<Item>>) => unknown,
  duplicateMessage: string,
) {
  const when = ({ value }: { value: unknown }) => Array.isArray(value);
  return z
    .array(item, must("be a list"))
    .min(1, "must not be empty")
    .refine((items) => items.length <= maxItems, { message: `must have at most ${maxItems} items`, when })
    .refine(
      (items) => {
        const texts = items.map((item) => textOf(item)).filter((text) => typeof text === "string");
        return new Set(texts).size === texts.length;
      },
      { message: duplicateMessage, when },
    )
    .meta({ maxItems });
}

/** False for an invalid limit: the schema leaves something else in its place. */
function isLimit(limit: Partial<Limit> | null): limit is Limit {
  return typeof limit?.windowMs === "number";
}

export const limitsSchema = listOf(
  limitSchema,
  8,
  (limit) => isLimit(limit) && limitName("", limit),
  "must not have two limits of one kind with the same window",
);

export const modeSchema = z.enum(["live", "shadow"], "must be live or shadow") satisfies z.ZodType<Mode>;

export const onErrorSchema = z.enum(["deny", "allow"], "must be deny or allow") satisfies z.ZodType<OnError>;

/** A layer without a mode has the mode of its policy. */
const layerSchema = z.strictObject(
  {
    name: nameSchema,
    by: listOf(attributeSchema, 64, (attribute) => attribute, "must not name an attribute twice"),
    limits: limitsSchema,
    mode: modeSchema.optional(),
  },
  must("be a table"),
) satisfies z.ZodType<Omit<Layer, "mode">>;

/** The layers of a policy, whatever fields a layer has beside its name. */
export function layersSchema<Layer extends z.ZodType<{ readonly name: string }>>(layer: Layer) {
  return listOf(layer, 8, (layer) => layer?.name, "must not have two layers of the same name");
}

const policySchema = z.strictObject(
  { mode: modeSchema.default("live"), on_error: onErrorSchema.optional(), layers: layersSchema(layerSchema) },
  must("be a table"),
);

const policiesTable = z.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be a table of policies by name",
);

/** Reads `RATE_LIMIT_POLICIES`: a table, or the same table as JSON. */
export function readPolicies(value: unknown): { policies: Policy[]; mistakes: Mistake[] } {
  const variable = "RATE_LIMIT_POLICIES";
  let declared = value;
  if (typeof value === "string") {
    try {
      declared = JSON.parse(value);
    } catch (error) {
      return { policies: [], mistakes: [{ where: variable, what: `must be JSON: ${(error as SyntaxError).message}` }] };
    }
  }
  const read = policiesTable.safeParse(declared);
  if (!read.success) return { policies: [], mistakes: mistakesOf(read.error, variable) };

  const policies: Policy[] = [];
  const mistakes: Mistake[] = [];
  // Each policy by itself: a zod record ignores the value of an invalid key, and ignores __proto__ altogether.
  for (const [key, content] of Object.entries(read.data)) {
    const policy = policySchema.safeParse(content);
    mistakes.push(...mistakesOf(nameSchema.safeParse(key).error, variable, key));
    mistakes.push(...mistakesOf(policy.error, variable, key));
    const reserved = Object.hasOwn(RESERVED, key) ? RESERVED[key] : undefined;
    if (reserved) mistakes.push({ where: `${variable}/${key}`, what: reserved });
    if (!policy.success) continue;
    const { mode, on_error: onError, layers } = policy.data;
    const withModes = layers.map((layer) => ({ ...layer, mode: layer.mode ?? mode }));
    policies.push(new Policy(key, withModes, onError));
  }
  if (Object.keys(read.data).length > MAX_POLICIES)
    mistakes.push({ where: variable, what: `must have at most ${MAX_POLICIES} policies` });
  return { policies, mistakes };
}
