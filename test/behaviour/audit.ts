import { describe, expect, test } from "vitest";
import type { AuditBody, OverrideList } from "../../src/request/admin-schema";
import { Caller, json, newSubject, type Target } from "./target";

/** The record of what admins order, the list of overrides in force, and the denials that a key's object remembers. */
export function auditSuite(name: string, target: Target): void {
  const caller = new Caller(target);
  const pathOf = (key: string) => `/v1/keys/${encodeURIComponent(key)}`;
  const ban = async (key: string) => {
    const response = await target.fetch(`${pathOf(key)}/override`, {
      method: "PUT",
      headers: { Authorization: `Bearer ${target.adminToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ kind: "ban", reason: "a test", expires_in_seconds: 60 }),
    });
    expect(response.status).toBe(200);
  };
  const lift = (key: string) => caller.admin(`${pathOf(key)}/override`, { method: "DELETE" });
  const reset = (key: string) => caller.admin(pathOf(key), { method: "DELETE" });
  const ordersOf = async (key: string) =>
    (await json<AuditBody>(await caller.admin(`/v1/audit?key=${encodeURIComponent(key)}`))).orders;

  /** All keys of all pages. */
  async function overriddenKeys(): Promise<string[]> {
    const keys: string[] = [];
    let query = "";
    for (;;) {
      const { overrides, next } = await json<OverrideList>(await caller.admin(`/v1/overrides${query}`));
      keys.push(...overrides.map(({ key }) => key));
      if (next === null) return keys;
      query = `?after=${encodeURIComponent(next)}`;
    }
  }

  describe(`${name}: audit`, () => {
    test("has every order about a key, newest first, by the name of its token", async () => {
      const [subject, other] = [newSubject(), newSubject()];
      const key = `user:${subject.user}`;
      await ban(key);
      await ban(`user:${other.user}`);
      await reset(key);
      await lift(key);
      const orders = await ordersOf(key);
      expect(orders).toMatchObject([
        { order: "lift_override", key, done: true },
        { order: "reset_key", key, done: true },
        { order: "set_override", key, done: true, override: { kind: "ban", reason: "a test" } },
      ]);
      for (const { by, at } of orders) {
        expect(by).not.toBe("");
        expect(by).not.toContain(target.adminToken);
        expect(new Date(at).toISOString()).toBe(at);
      }
    });

    test("lists an override from when it is set until it is lifted", async () => {
      const key = `ip:${newSubject().ip}`;
      expect(await overriddenKeys()).not.toContain(key);
      await ban(key);
      expect(await overriddenKeys()).toContain(key);
      await reset(key);
      expect(await overriddenKeys()).toContain(key);
      await lift(key);
      expect(await overriddenKeys()).not.toContain(key);
    });

    test("a key shows its last denials with the limits that denied, on request", async () => {
      const subject = newSubject();
      const key = `user:${subject.user}`;
      await caller.consume("chat", subject, 4);
      await caller.check("chat", subject, 5);
      expect((await caller.consume("chat", subject, 2)).allowed).toBe(false);
      const limit = { layer: "caller", limit: 5, window_seconds: 60, used: 4 };
      const state = await caller.key(key, "?denials=10");
      expect(state).toMatchObject({
        denials: [{ policy: "chat", cost: 2, limits: [limit] }],
        denials_since: expect.any(String),
      });
      expect(await caller.key(key, "?denials=0")).toMatchObject({ denials: [] });
      expect(await caller.key(key)).not.toHaveProperty("denials");
      expect(await caller.key(`ip:${subject.ip}`, "?denials=10")).toMatchObject({ denials: [] });
      expect((await caller.admin(`${pathOf(key)}?denials=11`)).status).toBe(400);
      await reset(key);
      expect(await caller.key(key, "?denials=10")).toMatchObject({ denials: [] });
    });
  });
}
