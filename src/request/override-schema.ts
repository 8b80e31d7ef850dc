import * as z from "zod";
import { must } from "../config/mistake";
import { limitsSchema, listOf } from "../config/policies";
import { wholeNumber } from "./cost-schema";
import type { InvalidField } from "./refusal";
import { overrideKind } from "./schema";

/** The longest time that an override can hold: a leap year. */
export const LONGEST_OVERRIDE_S = 366 * 86_400;

const MOST_REASON_CHARS = 500;

const overriddenLayer = z.strictObject(
  {
    policy: z.string(must("be the name of a policy")),
    layer: z.string(must("be the name of a layer")),
    limits: limitsSchema,
  },
  must("be an object"),
);

const fields = z.strictObject({
  kind: overrideKind.describe(
    "`limits`: other limits for the key. `exempt`: no limits. `ban`: nothing that counts by the key is admitted.",
  ),
  reason: z
    .string(must("be text"))
    .trim()
    .min(1, "must not be empty")
    .max(MOST_REASON_CHARS, `must have at most ${MOST_REASON_CHARS} characters`)
    .describe("Shown to admins who look the key up."),
  expires_at: z.iso
    .datetime({ offset: true, error: "must be an instant, like 2030-01-01T00:00:00Z" })
    .optional()
    .describe("When the override ends, at most 366 days ahead. Either this or `expires_in_seconds` is required."),
  expires_in_seconds: wholeNumber()
    .refine((seconds) => seconds >= 1 && seconds <= LONGEST_OVERRIDE_S, `must be from 1 to ${LONGEST_OVERRIDE_S}`)
    .meta({ minimum: 1, maximum: LONGEST_OVERRIDE_S })
    .optional()
    .describe("In how many seconds the override ends."),
  limits: listOf(
    overriddenLayer,
    256,
    (item) =>
      typeof item?.policy === "string" && typeof item.layer === "string" ? `${item.policy}/${item.layer}` : undefined,
    "must not name a layer twice",
  )
    .optional()
    .describe(
      "The limits that replace those of these layers. Required for the kind `limits`, not allowed for the others.",
    ),
});

type Sent = Readonly<Partial<Record<keyof z.input<typeof fields>, unknown>>>;

/**
 * A rule between fields, as JSON Schema for the OpenAPI document and as code. A refinement of the schema would not do:
 * it does not appear in the document, and it would also complain about a field that is malformed anyway.
 */
interface Rule {
  readonly schema: Readonly<Record<string, unknown>>;
  readonly mistakesIn: (sent: Sent) => InvalidField[];
}

const EITHER_END = ["expires_at", "expires_in_seconds"] as const;

export const oneEnd: Rule = {
  schema: { oneOf: EITHER_END.map((field) => ({ required: [field] })) },
  mistakesIn: (sent) => {
    const [first, second] = EITHER_END;
    const ends = EITHER_END.filter((field) => sent[field] !== undefined);
    if (ends.length === 0) return [{ pointer: `/${first}`, detail: `missing: send ${first} or ${second}` }];
    if (ends.length === 1) return [];
    return [{ pointer: `/${second}`, detail: `must be left out: send ${first} or ${second}, not both` }];
  },
};

export const limitsByKind: Rule = {
  schema: {
    if: { properties: { kind: { const: "limits" } } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema; nobody awaits the object
    then: { required: ["limits"] },
    else: { not: { required: ["limits"] } },
  },
  mistakesIn: ({ kind, limits }) => {
    if (kind === "limits" && limits === undefined)
      return [{ pointer: "/limits", detail: "missing: an override of kind limits needs them" }];
    if ((kind === "exempt" || kind === "ban") && limits !== undefined)
      return [{ pointer: "/limits", detail: "must be left out: only an override of kind limits has limits" }];
    return [];
  },
};

export const overrideRequest = fields.meta({ ...oneEnd.schema, ...limitsByKind.schema });
