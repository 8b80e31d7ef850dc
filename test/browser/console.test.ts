import { describe, expect, test } from "vitest";
import { advanceLimiter, caller, chat, chatOf, flushCounts, open, openSignedIn, startService } from "./console";

describe("signing in to the console", () => {
  test("takes an admin token, and keeps it in the tab until the sign-out", async () => {
    const console = await openSignedIn();
    await console.page.reload();
    await console.heading("Overview").waitFor();
    const kept = await console.page.evaluate(() => [{ ...sessionStorage }, { ...localStorage }, document.cookie]);
    expect(kept).toEqual([{ "limiter-admin-token": "admin-token" }, {}, ""]);
    await console.button("Sign out").click();
    await console.token.waitFor();
    expect(await console.page.evaluate(() => sessionStorage.length)).toBe(0);
  });

  test.each([
    ["wrong", /^This token is not valid/],
    ["caller-token", /^This is no admin token/],
  ])("says why it refuses the token %s", async (token, why) => {
    const console = await open();
    await console.token.fill(token);
    await console.page.keyboard.press("Enter");
    expect(await console.alert.innerText()).toMatch(why);
    expect([await console.token.inputValue(), await console.page.evaluate(() => sessionStorage.length)]).toEqual([
      "",
      0,
    ]);
    expect(await console.accessibilityViolations()).toEqual([]);
    await console.signIn();
  });

  test("is required again when the token was replaced, and leads back to the same page", async () => {
    const first = await startService();
    const console = await open({}, first.url);
    await console.signIn();
    await console.showKey("u_1");
    await first.stop();
    const second = await startService({ PORT: new URL(first.url).port, LIMITER_ADMIN_TOKENS: "another-token" });
    await console.advance(2);
    expect(await console.alert.innerText()).toMatch(/^This token is not valid/);
    expect(await console.page.evaluate(() => sessionStorage.length)).toBe(0);
    await console.token.fill("another-token");
    await console.page.keyboard.press("Enter");
    await console.heading("user:u_1").waitFor();
    // The page may have sent a request while neither service ran.
    expect(console.errors.splice(0).filter((error) => !error.includes("ERR_CONNECTION_REFUSED"))).toEqual([]);
    await second.stop();
  });

  test("survives a service that is down for a while, and shows that it is down", async () => {
    const first = await startService();
    const console = await open({}, first.url);
    await console.signIn();
    await first.stop();
    await console.advance(5);
    expect(await console.alert.innerText()).toBe("The service does not answer.");
    const second = await startService({ PORT: new URL(first.url).port });
    await console.advance(5);
    await console.alert.waitFor({ state: "detached" });
    expect(console.errors.splice(0).join()).toContain("ERR_CONNECTION_REFUSED");
    await second.stop();
  });
});

describe("the overview", () => {
  test("shows a denial that just happened, and the keys denied most", async () => {
    for (let i = 0; i < 7; i++) await chat("u_1");
    for (let i = 0; i < 6; i++) await chat("u_2");
    const console = await openSignedIn();
    const { page } = console;
    const denied = page.getByRole("region", { name: "Keys denied most" }).getByRole("row");
    await denied.nth(2).waitFor();
    expect(await denied.allInnerTexts()).toEqual([
      "Key\tBy\tDenied",
      "user:u_1\tchat / caller\t2",
      "user:u_2\tchat / caller\t1",
    ]);
    expect(await page.getByRole("img").first().getAttribute("aria-label")).toMatch(
      /^Decisions of the last hour: 10 allowed/,
    );

    await denied.getByRole("link", { name: "user:u_1" }).click();
    await console.heading("user:u_1").waitFor();
    await console.counter("chat / caller").waitFor();
  });

  test("shows totals by policy over an hour and over a day", async () => {
    await chat("u_1");
    await flushCounts();
    await advanceLimiter(7_200);
    await caller.consume("upload", { user: "u_1" });
    const console = await openSignedIn();
    const rows = console.page.getByRole("region", { name: /^By policy/ }).getByRole("row");
    await rows.nth(1).waitFor();
    expect(await rows.allInnerTexts()).toEqual(["Policy\tallowed\tall", "upload\t1\t1"]);
    await console.page.getByText("last day", { exact: true }).click();
    await rows.nth(2).waitFor();
    expect((await rows.allInnerTexts()).slice(1).sort()).toEqual(["chat\t1\t1", "upload\t1\t1"]);
    await console.page.getByLabel("Policy", { exact: true }).selectOption("chat");
    expect(await console.page.locator(".legend").innerText()).toMatch(/allowed 1\b/);
  });

  test("names the span of each card, also of the keys, which are always those of the last day", async () => {
    const { page } = await openSignedIn();
    const names = () => page.getByRole("heading", { level: 2 }).allInnerTexts();
    await expect
      .poll(names)
      .toEqual(["Decisions per minute, last hour", "By policy, last hour", "Keys denied most, last day"]);
    await page.getByText("last day", { exact: true }).click();
    await expect
      .poll(names)
      .toEqual(["Decisions per minute, last day", "By policy, last day", "Keys denied most, last day"]);
  });

  test("lists ten keys, and all of them on demand, with no empty half beside a short table", async () => {
    const users = Array.from({ length: 12 }, (_, i) => `u_${i}`);
    await chatOf(users, 6);
    const console = await openSignedIn();
    const denied = console.page.getByRole("region", { name: "Keys denied most" });
    await denied.getByRole("link").first().waitFor();
    expect(await denied.getByRole("link").count()).toBe(10);
    await console.button("Show all 12 keys", denied).click();
    expect((await denied.getByRole("link").allInnerTexts()).sort()).toEqual(users.map((user) => `user:${user}`).sort());
    await console.button("Show the first 10", denied).click();
    expect(await denied.getByRole("link").count()).toBe(10);
    const widths = await console.page.locator(".card").evaluateAll((cards) => cards.map((card) => card.clientWidth));
    expect(new Set(widths).size).toBe(1);
  });

  test("filters the chart and both tables by policy, and keeps a policy that has no decisions in the span", async () => {
    for (let i = 0; i < 7; i++) await chat("u_1");
    await flushCounts();
    await advanceLimiter(7_200);
    for (let i = 0; i < 4; i++) await caller.consume("upload", { user: "u_2" });
    const console = await openSignedIn();
    const { page } = console;
    const choice = page.getByLabel("Policy", { exact: true });
    const rows = (name: string) => page.getByRole("region", { name }).getByRole("row").allInnerTexts();
    await page.getByRole("link", { name: "user:u_2" }).waitFor();
    await choice.selectOption("upload");
    expect(await rows("By policy")).toEqual(["Policy\tallowed\tdenied\tall", "upload\t3\t1\t4"]);
    expect(await rows("Keys denied most")).toEqual(["Key\tBy\tDenied", "user:u_2\tupload / caller\t1"]);
    await choice.selectOption("chat");
    expect(await rows("By policy")).toEqual([]);
    expect(await rows("Keys denied most")).toEqual(["Key\tBy\tDenied", "user:u_1\tchat / caller\t2"]);
    expect(await page.getByText("No decisions of chat in the last hour.").innerText()).toContain(
      "Choose all policies or the last day",
    );
    expect(await choice.inputValue()).toBe("chat");
  });

  test("says what to do while there are no decisions, and what each outcome means", async () => {
    const console = await openSignedIn();
    const { page } = console;
    await page.getByText("No decisions in the last hour.").waitFor();
    expect(await page.getByText("No decisions in the last hour.").innerText()).toContain("send a POST /v1/consume");
    expect(await page.getByText("No key was denied in the last day.").innerText()).toContain("search for it above");
    await page.getByText("What the outcomes mean").click();
    expect(await page.getByRole("definition").count()).toBe(7);
    expect(await page.getByText("denied from cache", { exact: true }).isVisible()).toBe(true);
  });

  test("draws the bar of the current minute", async () => {
    await chat("u_1");
    const console = await openSignedIn();
    const canvas = console.page.locator("canvas");
    await canvas.waitFor();
    const drawn = await canvas.evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
      return Array.from({ length: data.length / 4 }, (_, i) => data.slice(4 * i, 4 * i + 4).join()).filter(
        // --allowed
        (pixel) => pixel === "79,154,163,255",
      ).length;
    });
    expect(drawn).toBeGreaterThan(500);
  });

  test("draws the chart, and shows the figures under the pointer", async () => {
    await chat("u_1");
    const console = await openSignedIn();
    const canvas = console.page.locator("canvas");
    await canvas.waitFor();
    const colours = await canvas.evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
      return new Set(Array.from({ length: data.length / 4 }, (_, i) => data.slice(4 * i, 4 * i + 4).join())).size;
    });
    expect(colours).toBeGreaterThan(2);
    const { width, height } = (await console.page.locator(".u-over").boundingBox()) ?? { width: 0, height: 0 };
    await console.page.locator(".u-over").hover({ position: { x: width - 4, y: height / 2 } });
    expect(await console.page.locator(".legend").innerText()).toMatch(/per minute:\s*allowed 1\b/);
  });
});

test("the policies page lists the policies in force with the attributes that each layer counts by", async () => {
  const console = await openSignedIn();
  await console.goTo("Policies");
  await console.heading("upload").waitFor();
  const rows = (await console.page.getByRole("row").allInnerTexts()).map((row) => row.split(/\s*[\t\n]\s*/));
  expect(rows.filter(([layer]) => layer !== "Layer")).toEqual([
    ["caller", "user, else ip", "5 per minute", "60 per hour"],
    ["ip", "ip", "30 per minute"],
    ["caller", "user", "3 per 10 seconds"],
    ["caller", "user", "2 concurrent per 5 minutes", "30 per hour"],
  ]);
});

test("shows an hour of traffic, for the docs", async () => {
  for (let minute = 0; minute < 60; minute++) {
    const busy = 10 + Math.round(6 * Math.sin(minute / 7) + 4 * Math.sin(minute / 2.3));
    const requests = Array.from({ length: 4 * busy }, (_, i) => {
      const user = i % 9 === 0 ? "u_1" : i % 14 === 0 ? "u_37" : `u_${minute % 7}_${i}`;
      const policy = i % 5 === 0 ? "upload" : "chat";
      return { op: "consume", policy, subject: { user, ip: `203.0.113.${i % 40}` } };
    });
    const response = await caller.post("/v1/batch", { requests });
    expect(response.status).toBe(200);
    await flushCounts();
    await advanceLimiter(minute < 59 ? 60 : 3);
  }
  const console = await openSignedIn({ viewport: { width: 1040, height: 880 } });
  await console.page.getByRole("link", { name: "user:u_1" }).waitFor();
  await console.screenshot("console-overview");
});

test("shows the last minutes of a key, for the docs", async () => {
  for (const [cost, seconds] of [
    [1, 240],
    [3, 900],
    [2, 600],
    [1, 700],
    [1, 9],
    [2, 14],
    [1, 5],
    [1, 17],
  ] as const) {
    expect(await chat("u_1", cost)).toBe(true);
    await advanceLimiter(seconds);
  }
  const console = await openSignedIn();
  await console.showKey("u_1");
  await console.page.getByLabel("What if the limits were").fill("3/minute, 20/hour");
  await console.page.getByText("would have been denied").waitFor();
  await console.screenshot("console-key");
});
