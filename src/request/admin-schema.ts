import * as z from "zod";
import { ORDER_KINDS } from "../audit/protocol";
import { OUTCOMES } from "../counting/tally";
import { shownCost, wholeNumber } from "./cost-schema";
import { limitInForce, limitStanding, overrideKind } from "./schema";

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
export const MOST_DENIALS = 10;

const denial = z.object({
  at: z.iso.datetime(),
  policy: z.string(),
  cost: shownCost.describe("By layer: of the layers that count by this key."),
  shadow: z.literal(true).optional().describe("True: the layers are in shadow, so the request was not denied by them."),
  limits: z
    .array(
      z.object({
        layer: z.string(),
        ...limitInForce,
        used: wholeNumber(),
        full: z.literal(true).optional().describe("True: the counter held as many events as a counter can."),
        override: overrideKind.optional().describe("The kind of the override that was in force."),
      }),
    )
    .describe("The limits of this key that did not admit the cost, and how much of each was used."),
});
export type DenialBody = z.infer<typeof denial>;

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
            released: z.literal(true).optional().describe("True: it takes no place in a concurrent limit."),
          }),
        )
        .describe("The newest events, newest first."),
    }),
  ),
  denials: z
    .array(denial)
    .optional()
    .describe(
      "Present if the query asks for them: the last denials by the key's object, newest first, from its memory. Denials that were answered from the denial cache are left out.",
    ),
  denials_since: z.iso
    .datetime()
    .nullable()
    .optional()
    .describe("Earlier denials are unknown. Null: all are, for the moment, since a deploy is under way."),
});
export type KeyState = z.infer<typeof keyState>;

export const MOST_LISTED_ORDERS = 100;

const auditedOrder = z.object({
  id: wholeNumber().describe("Later orders have greater ids."),
  at: z.iso.datetime().describe("When it was recorded, before it was carried out."),
  by: z.string().describe("The name of the token."),
  order: z.enum(ORDER_KINDS),
  key: z.string(),
  override: keyOverride.optional().describe("The override that was ordered, with its end and its reason."),
  done: z.boolean().describe("True: it was carried out. False: it was ordered, and may have been carried out or not."),
});
export type AuditedOrder = z.infer<typeof auditedOrder>;

export const audit = z.object({
  orders: z.array(auditedOrder).meta({ maxItems: MOST_LISTED_ORDERS }).describe("Newest first."),
  next: wholeNumber().nullable().describe("The next page is that with this `before`. Null: this is the last page."),
});
export type AuditBody = z.infer<typeof audit>;

export const MOST_LISTED_OVERRIDES = 50;

export const overrideList = z.object({
  overrides: z
    .array(
      z.object({
        key: z.string(),
        override: keyOverride,
        ordered_by: z.string().nullable().describe("The name of the token that ordered it. Null: not recorded."),
        ordered_at: z.iso.datetime().nullable(),
      }),
    )
    .meta({ maxItems: MOST_LISTED_OVERRIDES })
    .describe("By key. A page may have fewer than `limit`, or none, and not be the last."),
  unknown: z.array(z.string()).describe("Keys that may have an override, and whose object could not be reached."),
  next: z.string().nullable().describe("The next page is that with this `after`. Null: this is the last page."),
});
export type OverrideList = z.infer<typeof overrideList>;

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
  requests: z
    .array(z.object({ token: z.string().describe("The name of a token."), count: wholeNumber() }))
    .describe("The requests of these minutes, by token."),
  failed_sign_ins: wholeNumber().describe("The requests of these minutes that had no valid token."),
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
