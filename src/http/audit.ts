import type { IRequest } from "itty-router";
import * as z from "zod";
import type { Audit } from "../audit/audit";
import { overridesInForce } from "../audit/overrides";
import type { RecordedOrder } from "../audit/protocol";
import { type AuditedOrder, MOST_LISTED_ORDERS, MOST_LISTED_OVERRIDES } from "../request/admin-schema";
import { overrideBody } from "../request/override-request";
import { KEY_SCHEMA, normalKey } from "../request/subject";
import type { Service } from "../service";
import { Problem } from "./problem";
import { numberIn, readQuery } from "./query";
import { json } from "./reply";

/** What admins have ordered, newest first. @throws Problem, Refusal `invalid` or `unreachable` */
export async function auditedOrders({ url }: IRequest, { audit, config }: Service): Promise<Response> {
  const { key, before, limit } = readQuery(url, {
    key: keySchema(config.ipv6PrefixBits).optional(),
    before: numberIn({ least: 1, most: Number.MAX_SAFE_INTEGER }).optional(),
    limit: numberIn({ least: 1, most: MOST_LISTED_ORDERS }).default(MOST_LISTED_ORDERS),
  });
  const orders = await auditOf(audit).orders({ key, before, most: limit });
  return json({
    orders: orders.map(orderBody),
    next: orders.length === limit ? (orders.at(-1)?.number ?? null) : null,
  });
}

/** The overrides in force, by key. @throws Problem, Refusal `invalid` or `unreachable` */
export async function listOverrides({ url }: IRequest, { audit, keys, now }: Service): Promise<Response> {
  const { after = "", limit } = readQuery(url, {
    after: earlierKeySchema.optional(),
    limit: numberIn({ least: 1, most: MOST_LISTED_OVERRIDES }).default(MOST_LISTED_OVERRIDES),
  });
  const { overridden, unknownKeys, next } = await overridesInForce(auditOf(audit), keys, after, limit, now());
  return json({
    overrides: overridden.map(({ key, override }) => ({
      key,
      override: overrideBody(override),
      ordered_by: override.order?.by ?? null,
      ordered_at: override.order ? new Date(override.order.atMs).toISOString() : null,
    })),
    unknown: unknownKeys,
    next,
  });
}

function orderBody({ number, atMs, kind, key, by, override, isDone }: RecordedOrder): AuditedOrder {
  return {
    id: number,
    at: new Date(atMs).toISOString(),
    by,
    order: kind,
    key,
    ...(override && { override: overrideBody(override) }),
    done: isDone,
  };
}

/** @throws Problem 404 if the service has no audit. */
function auditOf(audit: Audit | undefined): Audit {
  if (audit) return audit;
  throw new Problem(404, "Not Found", "Orders are not recorded. Bind LIMITER_AUDIT to record them.");
}

/** The last key of a page. It need not be in the normal form of today: RATE_LIMIT_IPV6_PREFIX may have changed since. */
const earlierKeySchema = z
  .string("must be given once")
  .regex(new RegExp(KEY_SCHEMA.pattern), "must be <attribute>:<value>, such as user:u_1");

function keySchema(ipv6PrefixBits: number) {
  return z.string("must be given once").superRefine((key, context) => {
    const normal = normalKey(key, ipv6PrefixBits);
    if (!normal.ok) context.addIssue({ code: "custom", message: normal.detail });
    else if (normal.value !== key)
      context.addIssue({ code: "custom", message: `must be in its normal form, ${normal.value}` });
  });
}
