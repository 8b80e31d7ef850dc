import { describe, expect, test } from "vitest";
import { json } from "../behaviour/target";
import { advanceLimiter, caller, chat, nowMs, openSignedIn } from "./console";

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

  test("shows every mistake of an override in the dialog, and changes nothing", async () => {
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Override limits…", "Override", {
      "chat / caller": "lots",
      "upload / caller": "0/day",
      Reason: "x",
    });
    await console.dialog.getByRole("alert").waitFor();
    const mistakes = await console.dialog.getByRole("listitem").allInnerTexts();
    expect(mistakes).toEqual([
      expect.stringMatching(/^limits \/ 0 \/ limits \/ 0: "lots" is not a limit/),
      expect.stringMatching(/^limits \/ 1 \/ limits \/ 0: "0\/day"/),
    ]);
    await console.page.keyboard.press("Escape");
    expect(await console.dialog.count()).toBe(0);
    expect(await json(await caller.admin("/v1/keys/user:u_1"))).toMatchObject({ override: null });
  });

  test("resets the counters of a key", async () => {
    for (let i = 0; i < 5; i++) await chat("u_1");
    const console = await openSignedIn();
    await console.showKey("u_1");
    await console.confirm("Reset counters…", "Reset");
    await console.announced("The counters are reset.");
    expect(await console.counter("chat / caller").count()).toBe(0);
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

  test("says what is wrong with an invalid key", async () => {
    const console = await openSignedIn();
    await console.page.getByRole("searchbox").fill("ip:2001:DB8::1");
    await console.page.keyboard.press("Enter");
    expect(await console.page.getByText("The key in the path must").innerText()).toContain("ip:2001:db8::/64");
  });
});
