import * as z from "zod";
import { must } from "../config/mistake";
import { limits, listOf } from "../config/policies";
import { OUTCOMES } from "../counting/tally";
import { limitStanding, overrideKind, wholeNumber } from "./schema";

/** What admins send and get. */

/** Longest time that an override can hold: a leap year. */
export const LONGEST_OVERRIDE_S = 366 * 86_400;

const longestReason = 500;
const overrideReason = z
  .string(must("be text"))
  .trim()
  .min(1, "must not be empty")
  .max(longestReason, `must have at most ${longestReason} characters`);

const overriddenLayer = z.strictObject(
  { policy: z.string(must("be the name of a policy")), layer: z.string(must("be the name of a layer")), limits },
  must("be an object"),
);

/** The rules of `override.ts` between fields, as JSON Schema: for the OpenAPI document alone. */
const BETWEEN_FIELDS = {
  oneOf: [{ required: ["expires_at"] }, { required: ["expires_in_seconds"] }],
  if: { properties: { kind: { const: "limits" } } },
  // biome-ignore lint/suspicious/noThenProperty: nobody awaits it
  then: { required: ["limits"] },
  else: { not: { required: ["limits"] } },
};

const overrideFields = z.strictObject({
  kind: overrideKind.describe(
    "`limits`: other limits for the key. `exempt`: no limits. `ban`: nothing that counts by the key is admitted.",
  ),
  reason: overrideReason.describe("Shown to admins who look the key up."),
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
    (one) =>
      typeof one?.policy === "string" && typeof one.layer === "string" ? `${one.policy}/${one.layer}` : undefined,
    "must not name a layer twice",
  )
    .optional()
    .describe(
      "The limits that replace those of these layers. Required for the kind `limits`, not allowed for the others.",
    ),
});
export const overrideRequest = overrideFields.meta(BETWEEN_FIELDS);

const keyOverride = z.object({
  kind: overrideKind,
  reason: z.string(),
  expires_at: z.iso.datetime(),
  limits: z.array(z.object({ policy: z.string(), layer: z.string(), limits: z.array(z.string()) })).optional(),
});
export type KeyOverrideBody = z.infer<typeof keyOverride>;

export const overriddenKey = z.object({ key: z.string(), override: keyOverride });
export type OverriddenKey = z.infer<typeof overriddenKey>;

export const MOST_EVENTS = 1_000;
export const DEFAULT_EVENTS = 100;

export const keyState = z.object({
  key: z.string(),
  override: keyOverride.nullable().describe("The override in force for the key; null when there is none."),
  counters: z.array(
    z.object({
      policy: z.string(),
      layer: z.string(),
      limits: z.array(z.object(limitStanding)),
      events_total: wholeNumber().describe(
        "How many admitted events are in the longest window of the policy's limits and of the limits in force.",
      ),
      events: z
        .array(
          z.object({
            id: z.string(),
            at: z.iso.datetime(),
            cost: wholeNumber(),
            admitted_cost: wholeNumber()
              .optional()
              .describe("The cost at admission, when it was settled at another cost."),
          }),
        )
        .describe("The newest events, newest first."),
    }),
  ),
});
export type KeyState = z.infer<typeof keyState>;

export const MOST_MINUTES = 1_440;
export const DEFAULT_MINUTES = 60;
export const MOST_TOLD_KEYS = 50;

export const stats = z.object({
  minutes: z
    .array(
      z.object({
        at: z.iso.datetime().describe("When the minute began."),
        counts: z.array(
          z.object({
            policy: z.string(),
            layer: z
              .string()
              .nullable()
              .describe("null: each consume is counted once. A layer: how often it was a reason for a denial."),
            outcome: z.enum(OUTCOMES),
            count: wholeNumber(),
          }),
        ),
      }),
    )
    .describe("Oldest first. Minutes without decisions are left out."),
  denied_keys: z
    .array(
      z.object({
        key: z.string(),
        policy: z.string(),
        layer: z.string(),
        count: wholeNumber().describe("How often it was denied in the last day, at most."),
        error: wholeNumber().describe("By how much `count` may be too high."),
      }),
    )
    .meta({ maxItems: MOST_TOLD_KEYS })
    .describe("The keys denied most often in the last day, most often first."),
  error_at_most: wholeNumber().describe("A key that is not listed was denied at most this often."),
});
export type Stats = z.infer<typeof stats>;
