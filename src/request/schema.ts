import * as z from "zod";
import { must } from "../config/mistake";
import { layersSchema, limitsSchema, modeSchema, nameSchema } from "../config/policies";
import { OVERRIDE_KINDS } from "../core/override";
import { costField, settledCost, shownCost, wholeNumber } from "./cost-schema";
import { normalText, TEXT_SCHEMA } from "./subject";

/** Schemas of what callers send and get, over HTTP and RPC. They validate it, type it and document it. */

const subjectFields = {
  policy: z.string(must("be text")).meta({ examples: ["chat"] }),
  subject: z
    .record(z.string(), z.string(must("be text or null")).nullable(), must("be an object"))
    .describe("Who is asking. Attributes that no layer of the policy counts by are ignored.")
    .meta({ minProperties: 1, examples: [{ user: "u_1", ip: "203.0.113.7" }] }),
};

export const ID = "[A-Za-z0-9._~:-]{1,128}";

/** The pattern of the Idempotency-Key header: a string of structured fields (RFC 9651), or the same unquoted. */
export const ID_HEADER_PATTERN = `^("${ID}"|${ID})$`;

const idRule = "be 1 to 128 of A-Z a-z 0-9 . _ ~ : -";

/** An idempotency key, or the id of a decision. */
export const decisionId = z
  .string(must(idRule))
  .regex(new RegExp(`^${ID}$`), must(idRule))
  .meta({ examples: ["8e03978e-40d5-43dd-bc93-6894a57f9324"] });

export const decisionRequest = z.strictObject({ ...subjectFields, cost: costField });
export type DecisionRequest = z.input<typeof decisionRequest>;

/** Over RPC the idempotency key is a field; over HTTP it is a header. */
export type ConsumeRequest = DecisionRequest & {
  readonly idempotency_key?: string;
  /** 1 if a new key is sent for the first time: its denial can then come from the denial cache. */
  readonly attempt?: number;
};

const settleFields = {
  id: decisionId.describe("The decision to correct."),
  cost: settledCost,
};

export const settleRequest = z.strictObject({ ...subjectFields, ...settleFields });
export type SettleRequest = z.input<typeof settleRequest>;

const releaseFields = { id: decisionId.describe("The decision to release.") };

export const releaseRequest = z.strictObject({ ...subjectFields, ...releaseFields });
export type ReleaseRequest = z.input<typeof releaseRequest>;

export const inlineKey = z
  .string(must("be text"))
  .transform((text, context) => {
    const normal = normalText(text);
    if (normal.ok) return normal.value;
    context.addIssue({ code: "custom", message: normal.detail });
    return z.NEVER;
  })
  .describe("What the layer counts by: at most 256 bytes of UTF-8, without control characters.")
  .meta({ ...TEXT_SCHEMA, examples: ["login/203.0.113.7"] });

const inlineFields = {
  layers: layersSchema(
    z.strictObject({ name: nameSchema, key: inlineKey, limits: limitsSchema }, must("be an object")),
  ).describe("The layers, each with its limits and the key that it counts by."),
};

export const inlineRequest = z.strictObject({ ...inlineFields, cost: costField });
export const inlineSettleRequest = z.strictObject({ ...inlineFields, ...settleFields });
export const inlineReleaseRequest = z.strictObject({ ...inlineFields, ...releaseFields });

export const MOST_IN_BATCH = 100;
const sizeRule = must(`be a list of 1 to ${MOST_IN_BATCH} requests`);
const batchOf = <T extends z.ZodType>(request: T) =>
  z.strictObject({
    requests: z.array(request, sizeRule).min(1, sizeRule).max(MOST_IN_BATCH, sizeRule),
    headers: z.boolean(must("be true or false")).optional().describe("True: each result has its headers."),
    limits: z.boolean(must("be true or false")).optional().describe("False: no body has its `limits`."),
  });

/** Validates a batch but not its requests: each of them is validated by itself, when it is decided. */
export const batchEnvelope = batchOf(z.unknown());

export type Batch = z.output<typeof batchEnvelope>;

const messageIdRule = must("be a whole number from 0 to 2^53 - 1");
export const messageId = z.number(messageIdRule).refine((id) => Number.isSafeInteger(id) && id >= 0, messageIdRule);

/** A message of a session: a batch with an id. */
export const sessionMessage = batchEnvelope.extend({ id: messageId });

/** A batch with its requests: types and documents it. */
export const batchRequest = batchOf(
  z.discriminatedUnion("op", [
    decisionRequest.extend({
      op: z.literal("consume"),
      idempotency_key: decisionId.optional(),
      attempt: wholeNumber().optional().describe("1 when the idempotency key is new and sent for the first time."),
    }),
    decisionRequest.extend({ op: z.literal("check") }),
    settleRequest.extend({ op: z.literal("settle") }),
    releaseRequest.extend({ op: z.literal("release") }),
  ]),
);
export type BatchRequest = z.input<typeof batchRequest>;

export const overrideKind = z.enum(OVERRIDE_KINDS, must(`be one of ${OVERRIDE_KINDS.join(", ")}`));

export const limitInForce = {
  limit: wholeNumber().describe("The most that is admitted in any window."),
  window_seconds: wholeNumber(),
  concurrent: z
    .literal(true)
    .optional()
    .describe(
      "True: the limit counts decisions that were admitted in the window and not released. Left out: it adds up costs.",
    ),
};

export const limitStanding = {
  ...limitInForce,
  used: wholeNumber().describe("What counts in the window, including this decision."),
  remaining: wholeNumber(),
  reset_seconds: wholeNumber().describe("Seconds, rounded up, until `remaining` equals `limit` if nobody consumes."),
  override: overrideKind.optional().describe("The kind of the override that replaces the policy's own limit."),
};

const layerStanding = z
  .object({
    layer: z.string(),
    key: z.string(),
    ...limitStanding,
    shadow: z.literal(true).optional().describe("True: the layer is in shadow and denies nothing."),
  })
  .describe("One limit of one layer.");

export const decisionBody = z.object({
  allowed: z.boolean(),
  id: z.string().optional().describe("Names an admitted consume, for a settle or a release."),
  policy: z.string(),
  cost: shownCost.describe("As it was sent. By layer: of every layer of the policy, in its order."),
  replayed: z.boolean(),
  degraded: z.boolean(),
  retry_after_seconds: wholeNumber()
    .nullable()
    .describe(
      "The least whole number of seconds after which this cost fits every limit if nobody else consumes; null when allowed.",
    ),
  shadow: z.literal(true).optional().describe("Present, with `would_deny`, when the policy has layers in shadow."),
  would_deny: z
    .boolean()
    .optional()
    .describe("True: the layers in shadow would have denied this. False also when they could not be reached."),
  limits: z.array(layerStanding).describe("Every limit of every layer, in the policy's order."),
});
export type DecisionBody = z.infer<typeof decisionBody>;

const inlineStanding = layerStanding.extend({
  frees_in_ms: wholeNumber().describe("Milliseconds until some of `used` leaves the window; 0 when nothing is used."),
});

/** Inline limits are for libraries, which need the wait in milliseconds. */
export const inlineDecisionBody = decisionBody.extend({ limits: z.array(inlineStanding) });
export type InlineDecisionBody = z.infer<typeof inlineDecisionBody>;

export const settlementBody = z.object({
  id: z.string(),
  policy: z.string(),
  cost: shownCost.describe("What was set. By layer: of the layers that the settle names, in the policy's order."),
  limits: z.array(layerStanding).describe("Every limit of every layer, with the corrected cost."),
});
export type SettlementBody = z.infer<typeof settlementBody>;

export const releaseBody = z.object({
  id: z.string(),
  policy: z.string(),
  released: z.literal(true),
  limits: z.array(layerStanding).describe("Every limit of every layer, after the release."),
});
export type ReleaseBody = z.infer<typeof releaseBody>;

export const problemBody = z
  .object({
    type: z.string(),
    title: z.string(),
    status: wholeNumber(),
    detail: z.string(),
    errors: z
      .array(z.object({ pointer: z.string().describe("A JSON pointer into the request."), detail: z.string() }))
      .optional()
      .describe("Every mistake in a malformed request. For an unknown policy: its place in the request."),
  })
  .describe("An error, as problem details of RFC 9457.");

export const batchResults = z.object({
  results: z
    .array(
      z.object({
        status: wholeNumber(),
        headers: z.record(z.string(), z.string()).optional(),
        body: z
          .union([
            decisionBody.partial({ limits: true }),
            settlementBody.partial({ limits: true }),
            releaseBody.partial({ limits: true }),
            problemBody,
          ])
          .describe("What the single call would have answered, without `limits` if the batch asks for none."),
      }),
    )
    .describe("In the order of the requests."),
});
export type BatchResults = z.infer<typeof batchResults>;

export const policyList = z.object({
  policies: z.array(
    z.object({
      name: z.string(),
      layers: z.array(
        z.object({
          name: z.string(),
          by: z.array(z.string()).describe("The subject attributes that it counts by; the first one present wins."),
          mode: modeSchema.describe("`shadow`: it counts, and denies nothing."),
          limits: z.array(z.object(limitInForce)),
        }),
      ),
    }),
  ),
});
export type PolicyList = z.infer<typeof policyList>;
