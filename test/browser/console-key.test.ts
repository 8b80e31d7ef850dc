import { describe, expect, test } from "vitest";
import { json } from "../behaviour/target";
import { advanceLimiter, caller, chat, nowMs, open, openSignedIn } from "./console";

describe("the page of a key", () => {
  test("shows to the millisecond when a cost fits, and which events must leave before", async () => {
    const startMs = await nowMs();
    await chat("u_1", 2);
    await advanceLimiter(10.25);
    await chat("u_1", 3);
    const console = await openSignedIn();
    await console.showKey("u_1");
    const counter = console.counter("chat / caller");
    const fits = counter.locator(".fits");
    const at = (ms: number) => new Date(startMs + ms).toISOString().slice(11, 23);
    await fits.waitFor();
    expect(await fits.innerText()).toBe(`A cost of 1 fits at ${at(60_000)}, in 50 s.`);
    await console.page.getByRole("spinbutton").fill("3");
    expect(await fits.innerText()).toBe(`A cost of 3 fits at ${at(70_250)}, in 1 min.`);
    await console.page.getByRole("spinbutton").fill("6");
    expect(await fits.innerText()).toBe("A cost of 6 never fits. It is above the limit.");
    await console.page.getByRole("spinbutton").fill("1");

    const timeline = counter.getByRole("img").first();
    expect(await timeline.getAttribute("aria-label")).toBe("2 events in the last minute; the next leaves in 50 s.");
    expect(await timeline.locator(".event").count()).toBe(2);
    expect(await timeline.locator(".event.first").count()).toBe(1);
    await counter.getByText("2 events, and when each leaves").click();
    const rows = counter.getByRole("row");
    expect(await rows.nth(2).innerText()).toContain(at(0));
    expect((await rows.nth(2).innerText()).split("\t").slice(1)).toEqual([
      "2",
      // Preceded by the date if that is another day.
      expect.stringMatching(new RegExp(`${at(60_000).slice(0, 8)}$`)),
      expect.stringMatching(new RegExp(`${at(3_600_000).slice(0, 8)}$`)),
    ]);

    // One second before the event leaves, and when it leaves, by the page's clock.
    await console.page.clock.runFor(49_000);
    expect(await fits.innerText()).toMatch(/, in 1 s\.$/);
    await console.page.clock.runFor(1_000);
    expect(await fits.innerText()).toBe("A cost of 1 fits now.");
    expect(await timeline.locator(".event").count()).toBe(1);
  });

  test("reloads every few seconds, but not while the page is hidden", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    await chat("u_1");
    await console.advance(2);
    await console.counter("chat / caller").waitFor();

    const setHidden = (isHidden: boolean) =>
      console.page.evaluate((isHidden) => {
        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, isHidden);
    await setHidden(true);
    const before = console.requestedUrls.length;
    for (let i = 0; i < 5; i++) await console.advance(2);
    expect(console.requestedUrls.length).toBe(before);
    await chat("u_1");
    await setHidden(false);
    await console.page.getByText("2 events, and when each leaves").waitFor();
  });

  test("bans a key: the next consume is denied, and the first after the ban is lifted is admitted", async () => {
    await chat("u_1");
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Ban…", "Ban", { Reason: "sends spam", Ends: "in 1 d" });
    await console.announced(/^The key is banned until /);
    expect(await chat("u_1")).toBe(false);
    expect(await chat("u_2")).toBe(true);
    await console.override.getByText("Reason: sends spam").waitFor();
    expect(await console.override.innerText()).toMatch(/^Banned until .*, for another 1 d\n+Reason: sends spam/);
    expect(await console.counter("chat / caller").locator(".fits").innerText()).toMatch(/, in 1 d\.$/);

    await console.confirm("Lift", "Lift");
    await console.announced("The override is lifted.");
    // The announcement comes before the page is reloaded.
    await console.override.waitFor({ state: "detached" });
    expect(await chat("u_1")).toBe(true);
  });

  test("overrides the limits of a key, and exempts it", async () => {
    for (let i = 0; i < 5; i++) await chat("u_1");
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Override limits…", "Override", {
      "chat / caller": "6/minute, 60 per hour",
      Reason: "a trial",
    });
    const counter = console.counter("chat / caller");
    await counter.getByText("6 per minute").waitFor();
    expect([await chat("u_1"), await chat("u_1")]).toEqual([true, false]);

    await console.confirm("Exempt…", "Exempt", { Reason: "ours" });
    await console.announced(/^The key is exempt until /);
    await counter.getByText("A cost of 1 fits now.").waitFor();
    expect(await chat("u_1")).toBe(true);
  });

  test("ends an override at the chosen instant", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.button("Ban…").click();
    await console.dialog.getByLabel("Reason").fill("until the new year");
    await console.dialog.getByLabel("Ends").selectOption({ label: "at an instant…" });
    const instant = new Date((await nowMs()) + 86_400_000).toISOString().slice(0, 19);
    await console.dialog.getByLabel("Instant, in").fill(instant);
    await console.button("Ban", console.dialog).click();
    await console.announced("banned");
    const { override } = await json<{ override: { expires_at: string } }>(await caller.admin("/v1/keys/user:u_1"));
    expect(override.expires_at).toBe(`${instant}.000Z`);
  });

  test("shows every mistake of an override at its field, in words, and changes nothing", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Override limits…", "Override", {
      "upload / caller": "lots",
      "jobs / caller": "0/day",
      Reason: " ",
    });
    await console.dialog.getByRole("alert").waitFor();
    expect(await console.dialog.getByRole("alert").innerText()).toBe(
      "Nothing was changed. Correct the fields that are marked.",
    );
    const mistakeOf = async (label: string) => {
      const field = console.dialog.getByLabel(label);
      const id = await field.getAttribute("aria-describedby");
      return [await field.getAttribute("aria-invalid"), await console.dialog.locator(`[id="${id}"]`).innerText()];
    };
    expect(await mistakeOf("chat / caller")).toEqual(["false", ""]);
    expect(await mistakeOf("upload / caller")).toEqual([
      "true",
      expect.stringMatching(/^"lots" is not a limit: write/),
    ]);
    expect(await mistakeOf("jobs / caller")).toEqual(["true", expect.stringMatching(/^"0\/day": the limit must be/)]);
    expect(await mistakeOf("Reason")).toEqual(["true", "Must not be empty."]);
    expect(
      await console.dialog.getByLabel("upload / caller").evaluate((field) => field === document.activeElement),
    ).toBe(true);
    expect(await console.accessibilityViolations()).toEqual([]);
    await console.page.keyboard.press("Escape");
    expect(await console.dialog.count()).toBe(0);
    expect(await json(await caller.admin("/v1/keys/user:u_1"))).toMatchObject({ override: null });
  });

  test("asks for the limits of an override that has none, and for an end in the future, at their fields", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Override limits…", "Override", { Reason: "a trial" });
    await console.dialog.getByText("Write other limits for at least one layer.").waitFor();
    await console.dialog.getByLabel("chat / caller").fill("9/minute");
    await console.dialog.getByLabel("Ends").selectOption({ label: "at an instant…" });
    await console.dialog.getByLabel("Instant, in").fill("2020-01-01T00:00:00");
    await console.button("Override", console.dialog).click();
    await console.dialog.locator("#mistake-instant").getByText("Must be in the future.").waitFor();
    expect(await console.dialog.getByText("Write other limits").isVisible()).toBe(false);
  });

  test("makes the button of a ban as strong as that of an override", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    const filled: boolean[] = [];
    for (const [opener, action] of [
      ["Override limits…", "Override"],
      ["Ban…", "Ban"],
    ] as const) {
      await console.button(opener).click();
      const background = await console.dialog.evaluate((dialog) => getComputedStyle(dialog).backgroundColor);
      const button = console.button(action, console.dialog);
      filled.push((await button.evaluate((element) => getComputedStyle(element).backgroundColor)) !== background);
      await console.page.keyboard.press("Escape");
    }
    expect(filled).toEqual([true, true]);
  });

  test("says when a concurrent limit has a free place at the latest, and which events were released", async () => {
    const startMs = await nowMs();
    const subject = { user: "u_1" };
    const consume = async () => (await caller.consume("jobs", subject)).id;
    const released = await consume();
    await advanceLimiter(60);
    const held = await consume();
    await caller.post("/v1/release", { policy: "jobs", subject, id: released });
    await advanceLimiter(60);
    await consume();
    const console = await openSignedIn();
    await console.showKey("u_1");
    const counter = console.counter("jobs / caller");
    const at = new Date(startMs + 360_000).toISOString().slice(11, 23);
    await counter.locator(".fits").waitFor();
    expect(await counter.locator(".fits").innerText()).toBe(
      `A cost of 1 fits at ${at}, in 4 min, or sooner if a concurrent decision is released.`,
    );
    expect(await counter.getByRole("img").first().getAttribute("aria-label")).toBe(
      "2 events in the last 5 minutes; the next leaves in 4 min.",
    );
    await counter.getByText("3 events, and when each leaves").click();
    await counter.getByRole("row").first().waitFor();
    const rows = await counter.getByRole("row").allInnerTexts();
    expect(rows[0]).toMatch(/frees its place/);
    expect(rows[2]).toContain(held);
    expect(rows[2]).toContain(at.slice(0, 8));
    expect(rows[3]).toContain(released);
    expect(rows[3]).toMatch(/\treleased\t/);

    await caller.post("/v1/release", { policy: "jobs", subject, id: held });
    await console.advance(2);
    await counter.getByText("A cost of 1 fits now.").waitFor();
  });

  test("shows a full bar as full, another one not, and says what the marks mean", async () => {
    for (let i = 0; i < 5; i++) await chat("u_1");
    const console = await openSignedIn();
    await console.showKey("u_1");
    const bars = console.counter("chat / caller").getByRole("meter");
    await bars.first().waitFor();
    const looks = await bars.evaluateAll((bars) =>
      bars.map((bar) => {
        const [rail, fill] = [...bar.querySelectorAll("rect")];
        if (!rail || !fill) throw new Error("no rail or fill");
        return {
          colour: getComputedStyle(fill).fill,
          share: fill.getBoundingClientRect().width / rail.getBoundingClientRect().width,
          height: fill.getBoundingClientRect().height / rail.getBoundingClientRect().height,
        };
      }),
    );
    expect(looks).toEqual([
      { colour: "rgb(201, 73, 60)", share: 1, height: 1 },
      { colour: "rgb(79, 154, 163)", share: expect.closeTo(5 / 60, 2), height: 1 },
    ]);
    const legend = await console.page.locator(".legend").innerText();
    for (const text of ["an event that counts", "must leave before the cost fits", "the limit is full"])
      expect(legend).toContain(text);
  });

  test("lists twenty events of a counter, and all of them on demand", async () => {
    for (let minute = 0; minute < 5; minute++) {
      for (let i = 0; i < 5; i++) await chat("u_1");
      await advanceLimiter(60);
    }
    const console = await openSignedIn();
    await console.showKey("u_1");
    const counter = console.counter("chat / caller");
    await counter.getByText("25 events, and when each leaves").click();
    await counter.getByRole("row").first().waitFor();
    expect(await counter.getByRole("row").count()).toBe(21);
    await console.button("Show all 25 events", counter).click();
    expect(await counter.getByRole("row").count()).toBe(26);
  });

  test("resets the counters of a key", async () => {
    for (let i = 0; i < 5; i++) await chat("u_1");
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Reset counters…", "Reset");
    await console.announced("The counters are reset.");
    // The announcement comes before the page is reloaded.
    await console.counter("chat / caller").waitFor({ state: "detached" });
    expect(await chat("u_1")).toBe(true);
  });

  test("shows what other limits would have denied", async () => {
    for (let i = 0; i < 4; i++) await chat("u_1");
    const console = await openSignedIn();
    await console.showKey("u_1");
    const field = console.page.getByLabel("What if the limits were");
    const answer = console.counter("chat / caller").getByRole("status");
    await field.fill("3/minute");
    expect(await answer.innerText()).toMatch(/^At 3 per minute, 1 of 4 admitted events would have been denied/);
    await field.fill("4/minute, 10/hour");
    expect(await answer.innerText()).toBe(
      "At 4 per minute, 10 per hour, none of 4 admitted events would have been denied.",
    );
    await field.fill("4 a minute");
    expect(await answer.innerText()).toContain("is not a limit");
  });

  test.each(["2001:DB8:1:2:0:0:0:7", "ip:2001:db8:1:2::7", "[2001:db8:1:2::9]:443", "2001:0db8:0001:0002::/64"])(
    "is found by the address %s, whatever its spelling",
    async (address) => {
      await caller.consume("chat", { ip: "2001:db8:1:2::7" });
      const console = await openSignedIn();
      await console.page.getByRole("searchbox").fill(address);
      await console.page.keyboard.press("Enter");
      await console.heading("ip:2001:db8:1:2::/64").waitFor();
      await console.counter("chat / ip").waitFor();
      await console.page.goBack();
      await console.heading("Overview").waitFor();
    },
  );

  test("is that of an address also if the search is faster than the policies", async () => {
    const console = await open();
    const held: (() => void)[] = [];
    let isHolding = true;
    await console.page.route("**/v1/policies", async (route) => {
      if (isHolding) await new Promise<void>((resolve) => held.push(resolve));
      await route.continue();
    });
    await console.signIn();
    await console.page.getByRole("searchbox").fill("ip:203.0.113.7");
    await console.page.keyboard.press("Enter");
    await expect.poll(() => held.length).toBeGreaterThan(0);
    isHolding = false;
    for (const release of held) release();
    await console.heading("ip:203.0.113.7").waitFor();
  });

  test("says what is wrong with an invalid key, and what to do", async () => {
    const console = await openSignedIn();
    await console.page.getByRole("searchbox").fill("ip:2001:db8::/48");
    await console.page.keyboard.press("Enter");
    const text = await console.page.getByText("The key in the path must").innerText();
    expect(text).toContain("must be an IPv4 address of four decimal numbers or an IPv6 address");
    expect(await console.page.getByText("Search above").innerText()).toContain("Layers count by user, ip.");
  });

  test("says what to do if nothing of the key is used, or nothing counts by its attribute", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    const empty = console.page.getByRole("region", { name: "Nothing is used" });
    expect(await empty.innerText()).toContain("check the spelling");
    expect((await empty.getByRole("row").allInnerTexts()).slice(1)).toEqual([
      "chat / caller\t5 per minute, 60 per hour",
      "upload / caller\t3 per 10 seconds",
      "jobs / caller\t2 concurrent per 5 minutes, 30 per hour",
    ]);
    await console.page.goto(`${console.url}/console#/keys/team:a`);
    expect(await console.page.getByText("No layer counts by").innerText()).toMatch(/^No layer counts by team\. Search/);
  });
});
