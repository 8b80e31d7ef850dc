import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { Env } from "../../src/service";
import { newSubject } from "../behaviour/target";
import { workerTarget } from "./target";

const CLASSES = ["LIMITER_OBJECTS", "LIMITER_STATS", "LIMITER_HUBS", "LIMITER_AUDIT"] as const;
const bound = env as unknown as Required<Env>;

/**
 * Bindings that hand out objects only within a jurisdiction, as they are on Cloudflare. workerd has no jurisdictions, so
 * the objects that they hand out are those of this runtime.
 */
function restricted() {
  const asked = new Set<string>();
  const bindings = CLASSES.map((binding) => [
    binding,
    {
      jurisdiction: (name: string) => ({
        getByName: (object: string) => {
          asked.add(`${binding} in ${name}`);
          return bound[binding].getByName(object, {});
        },
      }),
      getByName: (name: string) => {
        throw new Error(`${binding} ${name} is in no jurisdiction.`);
      },
    },
  ]);
  return { asked, bindings: Object.fromEntries(bindings) as Record<string, unknown> };
}

test("counters, counts, hubs and the audit are in the jurisdiction, and nothing outside of it is asked", async () => {
  const { asked, bindings } = restricted();
  const target = workerTarget({ ...bindings, LIMITER_JURISDICTION: "eu" });
  const authorization = { Authorization: `Bearer ${target.adminToken}` };
  const consumed = await target.fetch("/v1/consume", {
    method: "POST",
    headers: { ...authorization, "Content-Type": "application/json" },
    body: JSON.stringify({ policy: "chat", subject: newSubject() }),
  });
  const key = await target.fetch("/v1/keys/user%3Au_1", { headers: authorization });
  const stats = await target.fetch("/v1/stats", { headers: authorization });
  const audit = await target.fetch("/v1/audit", { headers: authorization });
  const session = await target.fetch("/v1/session", {
    headers: { ...authorization, Upgrade: "websocket", "Sec-WebSocket-Version": "13" },
  });
  expect([consumed, key, stats, audit, session].map(({ status }) => status)).toEqual([200, 200, 200, 200, 101]);
  session.webSocket?.accept();
  session.webSocket?.close();
  expect([...asked].sort()).toEqual(CLASSES.map((binding) => `${binding} in eu`).sort());
});

test("nothing is decided where the runtime has no jurisdictions: workerd has none", async () => {
  const target = workerTarget({ LIMITER_JURISDICTION: "eu" });
  expect((await target.fetch("/healthz")).status).toBe(503);
  const call = { method: "POST", headers: { Authorization: `Bearer ${target.callerToken}` } };
  expect((await target.fetch("/v1/consume", call)).status).toBe(503);
});
