import { describe, expect, test } from "vitest";
import { advanceLimiter, caller, chat, openSignedIn, service } from "./console";

async function ban(key: string, reason: string): Promise<void> {
  const response = await service.fetch(`/v1/keys/${encodeURIComponent(key)}/override`, {
    method: "PUT",
    headers: { Authorization: "Bearer admin-token", "Content-Type": "application/json" },
    body: JSON.stringify({ kind: "ban", reason, expires_in_seconds: 3_600 }),
  });
  expect(response.status).toBe(200);
}

describe("the overrides page", () => {
  test("lists every override in force, and lifts one", async () => {
    await ban("user:u_1", "sends spam");
    await ban("user:u_2", "a leaked password");
    const console = await openSignedIn();
    await console.goTo("Overrides");
    const rows = console.page.getByRole("row");
    await rows.nth(2).waitFor();
    expect((await rows.allInnerTexts()).map((row) => row.split(/\s*\t\s*/).slice(0, 3))).toEqual([
      ["Key", "Override", "Reason"],
      ["user:u_1", "Banned", "sends spam"],
      ["user:u_2", "Banned", "a leaked password"],
    ]);
    expect(await rows.nth(1).innerText()).toMatch(/in 1 h\s+LIMITER_ADMIN_TOKENS\[0\]/);
    await console.confirm("Lift the override of user:u_1", "Lift");
    await console.announced("The override is lifted.");
    await rows.nth(2).waitFor({ state: "detached" });
    expect([await chat("u_1"), await chat("u_2")]).toEqual([true, false]);
    await console.page.getByRole("link", { name: "user:u_2" }).click();
    await console.override.getByText("a leaked password").waitFor();
  });

  test("shows more than a page of the service on demand", async () => {
    for (let i = 0; i < 52; i++) await ban(`user:u_${String(i).padStart(2, "0")}`, "one of many");
    const console = await openSignedIn();
    await console.goTo("Overrides");
    const rows = console.page.getByRole("row");
    await rows.nth(50).waitFor();
    expect(await rows.count()).toBe(51);
    await console.button("Show more").click();
    await rows.nth(52).waitFor();
    expect([await rows.count(), await console.button("Show more").count()]).toEqual([53, 0]);
  });

  test("says so when no key is overridden", async () => {
    const console = await openSignedIn();
    await console.goTo("Overrides");
    await console.page.getByText("No key is banned, exempt, or has other limits.").waitFor();
  });
});

describe("the audit page", () => {
  test("shows who ordered what and why, newest first, and the orders about one key by themselves", async () => {
    await ban("user:u_1", "sends spam");
    await ban("user:u_2", "a leaked password");
    await caller.admin("/v1/keys/user:u_1", { method: "DELETE" });
    const console = await openSignedIn();
    await console.goTo("Audit");
    const rows = console.page.getByRole("row");
    await rows.nth(3).waitFor();
    const texts = async () => (await rows.allInnerTexts()).slice(1).map((row) => row.split(/\s*\t\s*/).slice(1, 4));
    const by = "LIMITER_ADMIN_TOKENS[0]";
    expect(await texts()).toEqual([
      [by, "reset the counters", "user:u_1"],
      [by, "set an override", "user:u_2"],
      [by, "set an override", "user:u_1"],
    ]);
    expect(await rows.nth(2).innerText()).toContain("Reason: a leaked password");
    await rows.getByRole("link", { name: "user:u_1" }).first().click();
    await console.page.getByRole("link", { name: "Orders about this key" }).click();
    await console.heading("Audit of user:u_1").waitFor();
    await rows.nth(2).waitFor();
    expect(await texts()).toEqual([
      [by, "reset the counters", "user:u_1"],
      [by, "set an override", "user:u_1"],
    ]);
  });
});

test("the page of a key shows its last denials, and since when they are remembered", async () => {
  for (let i = 0; i < 6; i++) await chat("u_1");
  await advanceLimiter(60);
  await ban("user:u_1", "sends spam");
  expect(await chat("u_1")).toBe(false);
  await caller.admin("/v1/keys/user:u_1/override", { method: "DELETE" });
  const console = await openSignedIn();
  await console.showKey("u_1");
  const denials = console.page.getByRole("region", { name: "Last denials" });
  const rows = denials.getByRole("row");
  await rows.nth(2).waitFor();
  expect((await rows.allInnerTexts()).slice(1).map((row) => row.split(/\s*\t\s*/).slice(1))).toEqual([
    ["chat", "1", "caller: banned\ncaller: banned"],
    ["chat", "1", "caller: 5 per minute, 5 used"],
  ]);
  expect(await denials.innerText()).toMatch(/From the memory of the key's object, which begins at /);
});
