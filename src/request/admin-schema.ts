import * as z from "zod";
import { OUTCOMES } from "../counting/tally";
import { limitStanding, overrideKind, wholeNumber } from "./schema";

/** Schemas of what admins get. `override-schema.ts` has what they send. */

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
            released: z.literal(true).optional().describe("True: it takes no place in a concurrent limit any more."),
          }),
        )
        .describe("The newest events, newest first."),
    }),
  ),
});
export type KeyState = z.infer<typeof keyState>;

export const MOST_MINUTES = 1_440;
export const DEFAULT_MINUTES = 60;
export const MOST_LISTED_KEYS = 50;

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
    .meta({ maxItems: MOST_LISTED_KEYS })
    .describe("The keys denied most often in the last day, most often first."),
  error_at_most: wholeNumber().describe("A key that is not listed was denied at most this often."),
});
export type Stats = z.infer<typeof stats>;
