import { describe, expect, test } from "vitest";
import { caller, chat, open, openSignedIn } from "./console";

/** User names that must appear as text and as nothing else. */
const HOSTILE = [
  `<img src=x onerror="document.title='run'">`,
  `"><script>document.title='run'</script>`,
  "\u202Etxet desrever", // written from right to left from here on
  "مستخدم",
  "javascript:alert(1)",
  "../../v1/policies?x#y%00",
  "w".repeat(256),
];

describe("hostile input", () => {
  test.each(HOSTILE)("is shown as text: %j", async (user) => {
    for (let i = 0; i < 6; i++) await chat(user);
    const console = await openSignedIn({ viewport: { width: 360, height: 740 } });
    const key = `user:${user}`;
    const link = console.page.getByRole("link", { name: "user:" });
    await link.waitFor();
    expect(await link.textContent()).toBe(key);
    expect(await console.isScrollableSideways()).toBe(false);
    await link.click();
    await console.counter("chat / caller").waitFor();
    expect(await console.page.locator("h1").textContent()).toBe(key);
    await console.confirm("Ban…", "Ban", { Reason: user });
    await console.announced("banned");
    expect(await console.override.locator("bdi").textContent()).toBe(user.trim());
    expect(await console.isScrollableSideways()).toBe(false);
    expect(await chat(user)).toBe(false);
    for (const page of ["Overrides", "Audit"] as const) {
      await console.goTo(page);
      const shown = console.page.getByRole("row").nth(1);
      await shown.waitFor();
      expect(await shown.locator("bdi").allTextContents()).toEqual(expect.arrayContaining([key, user.trim()]));
      expect(await console.isScrollableSideways()).toBe(false);
      expect(await console.page.locator("main img, main script").count()).toBe(0);
    }
    await console.page.goBack();
    await console.page.goBack();
    await console.counter("chat / caller").waitFor();
    expect(await console.page.locator("main img:not([role]), main script, dialog img").count()).toBe(0);
    expect(await console.page.title()).toBe(`${key} · Limiter console`.replace(/\s+/g, " "));
  });
});

test("the console runs only its own script, makes no elements from text, and sends no requests elsewhere", async () => {
  const console = await open();
  const refused = await console.page.evaluate(async () => {
    const nameOf = (work: () => unknown) => {
      try {
        work();
        return "nothing";
      } catch (error) {
        return (error as Error).name;
      }
    };
    const script = document.createElement("script");
    const image = document.createElement("img");
    const violated = new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
        if (effectiveDirective === "img-src") resolve(effectiveDirective);
      });
    });
    image.src = "https://example.com/x.png";
    return [
      nameOf(() => Object.assign(document.body, { innerHTML: "<b>bold</b>" })),
      nameOf(() => Object.assign(script, { src: "https://example.com/x.js" })),
      await fetch("https://example.com").catch((error: Error) => error.name),
      await violated,
    ];
  });
  expect(refused).toEqual(["TypeError", "TypeError", "TypeError", "img-src"]);
  expect(console.errors.splice(0).join()).toContain("Content Security Policy");
  // The browser refused to send this request.
  expect(console.requestedUrls.splice(0).at(-1)).toBe("https://example.com/x.png");
});

test("the console can be used by keyboard alone", async () => {
  await chat("u_1");
  const console = await open();
  const { keyboard } = console.page;
  const focused = () =>
    console.page.evaluate(
      () => document.activeElement?.getAttribute("name") ?? document.activeElement?.textContent?.trim(),
    );
  await expect.poll(focused).toBe("token");
  await keyboard.type("admin-token");
  await keyboard.press("Enter");
  await console.heading("Overview").waitFor();
  await expect.poll(focused).toBe("Overview");
  const order = [];
  for (let i = 0; i < 3; i++) {
    await keyboard.press("Tab");
    order.push(await focused());
  }
  // From the heading onwards.
  expect(order[0]).toBe("span");

  await console.page.reload();
  await console.heading("Overview").waitFor();
  for (const name of ["Skip to the content", "Overview", "Policies", "Overrides", "Audit", "key"]) {
    await keyboard.press("Tab");
    expect(await focused()).toBe(name);
  }
  await keyboard.type("u_1");
  await keyboard.press("Enter");
  await console.counter("chat / caller").waitFor();
  await expect.poll(focused).toBe("user:u_1");
  for (const name of ["Override limits…", "Exempt…", "Ban…"]) {
    await keyboard.press("Tab");
    expect(await focused()).toBe(name);
  }
  await keyboard.press("Enter");
  expect(await focused()).toBe("reason");
  await keyboard.press("Escape");
  expect([await console.dialog.count(), await focused()]).toEqual([0, "Ban…"]);
  await keyboard.press("Enter");
  await keyboard.type("by hand");
  await keyboard.press("Enter");
  await console.announced("banned");
  expect(await chat("u_1")).toBe(false);
});

describe.each([
  ["a phone", { width: 390, height: 844 }],
  ["a small phone", { width: 360, height: 640 }],
])("on %s", (_, viewport) => {
  const openOnPhone = () => openSignedIn({ viewport, hasTouch: true, isMobile: true });

  test("nothing is cut off, however many figures a row has", async () => {
    const consume = (key: string) =>
      caller.post("/v1/consume", { policy: "jobs", subject: { user: "u_1" } }, { "Idempotency-Key": key });
    for (const key of ["a", "a", "b", "c", "c"]) await consume(key);
    for (let i = 0; i < 8; i++) await chat("u_1");
    const console = await openOnPhone();
    const cutOff = () =>
      console.page.locator("main *").evaluateAll((elements) =>
        elements
          .filter((element) => element.checkVisibility() && !element.closest(".hidden, thead, svg, .plot"))
          .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth)
          .map(({ outerHTML }) => outerHTML.slice(0, 80)),
      );
    await console.page.getByRole("link", { name: "user:u_1" }).first().waitFor();
    await console.page.getByText("replayed").first().waitFor();
    expect(await cutOff()).toEqual([]);
    await console.showKey("u_1");
    await console.counter("jobs / caller").getByText("and when each leaves").click();
    await console.counter("jobs / caller").getByText("frees its place").last().waitFor();
    expect(await cutOff()).toEqual([]);
    expect(await console.isScrollableSideways()).toBe(false);
  });

  test("the header has two lines: pages and sign-out, then the search", async () => {
    const console = await openOnPhone();
    const middles = await console.page.locator("header :is(nav, a, button, input)").evaluateAll((elements) =>
      elements.map((element) => {
        const { top, bottom } = element.getBoundingClientRect();
        return Math.round((top + bottom) / 20);
      }),
    );
    expect(new Set(middles).size).toBe(2);
    expect(await console.page.locator("header").evaluate(({ clientHeight }) => clientHeight)).toBeLessThan(100);
  });

  test("the buttons of a dialog are in sight, however many fields it has", async () => {
    const console = await openOnPhone();
    await console.showKey("u_1");
    await console.button("Override limits…").click();
    const isInSight = (name: string) =>
      console.button(name, console.dialog).evaluate((button) => {
        const { top, bottom } = button.getBoundingClientRect();
        return top >= 0 && bottom <= innerHeight;
      });
    expect([await isInSight("Cancel"), await isInSight("Override")]).toEqual([true, true]);
    await console.dialog.getByLabel("Reason").fill("a trial");
    await console.dialog.getByLabel("Ends").selectOption({ label: "at an instant…" });
    await console.button("Override", console.dialog).click();
    expect([await isInSight("Cancel"), await isInSight("Override")]).toEqual([true, true]);
  });
});

describe.each(["light", "dark"] as const)("in the %s scheme", (colorScheme) => {
  test.each([
    ["a phone", { width: 360, height: 740 }],
    ["a wide screen", { width: 1440, height: 900 }],
  ])("every page fits %s, and meets WCAG AA", async (_, viewport) => {
    for (let i = 0; i < 6; i++) await chat("u_1");
    const console = await open({ colorScheme, viewport });
    const isGood = async () =>
      expect([await console.accessibilityViolations(), await console.isScrollableSideways()]).toEqual([[], false]);
    await isGood();
    await console.signIn();
    await console.page.getByRole("link", { name: "user:u_1" }).waitFor();
    await isGood();
    const brightness = await console.page.evaluate(() =>
      Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)?.[0]),
    );
    expect(colorScheme === "light" ? brightness > 200 : brightness < 60).toBe(true);
    await console.goTo("Policies");
    await console.heading("upload").waitFor();
    await isGood();
    await console.showKey("u_1");
    await console.page.getByText("and when each leaves").first().click();
    await console.page.getByLabel("What if the limits were").fill("1/minute");
    await isGood();
    await console.button("Override limits…").click();
    await isGood();
    await console.page.keyboard.press("Escape");
    await console.confirm("Ban…", "Ban", { Reason: "to see it" });
    await console.announced("banned");
    await isGood();
    await console.goTo("Overrides");
    await console.button("Lift the override of user:u_1").waitFor();
    await isGood();
    await console.goTo("Audit");
    await console.page.getByRole("cell", { name: "set an override" }).waitFor();
    await isGood();
  });
});
