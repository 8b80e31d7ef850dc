import { type Browser, type BrowserContextOptions, chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startChat } from "../../scripts/example/chat";
import type { RunningExample } from "../../scripts/example/running";
import { ChatPage } from "./chat-page";
import { CHROMIUM_ARGUMENTS, ensureChromium } from "./chromium";

/** More than a minute's limit, so that a test can reach the wait without the paywall, and the paywall without the wait. */
const FREE_MESSAGES = 8;

const QUESTIONS = [
  "Hello! What is a sliding window?",
  "And what is a fixed one?",
  "Which of them is exact?",
  "How long would I have to wait?",
  "Does it help to reach another process?",
];

let browser: Browser;
let opened: ChatPage[] = [];

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: ensureChromium(), args: CHROMIUM_ARGUMENTS });
});
afterAll(() => browser?.close());

async function open(url: string, options?: BrowserContextOptions): Promise<ChatPage> {
  const chat = await ChatPage.open(browser, url, options);
  opened.push(chat);
  return chat;
}

afterEach(async () => {
  const pages = opened;
  opened = [];
  for (const { page } of pages) await page.context().close();
  expect(pages.flatMap(({ errors }) => errors)).toEqual([]);
});

describe("the chat of three processes behind a proxy", () => {
  let example: RunningExample;
  beforeAll(async () => {
    example = await startChat({ hasTestClock: true, freeMessages: FREE_MESSAGES });
  });
  afterAll(() => example?.stop());
  beforeEach(async () => {
    expect((await example.limiter.fetch("/test/reset", { method: "POST" })).status).toBe(204);
  });

  async function advanceLimiter(seconds: number): Promise<void> {
    const response = await example.limiter.fetch("/test/clock", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ advance_seconds: seconds }),
    });
    expect(response.status).toBe(200);
  }

  /** Sends messages without the page, from the same address, all at once. Returns how many got each status. */
  async function flood(count: number, user?: string): Promise<Record<number, number>> {
    const headers = { "Content-Type": "application/json", ...(user && { "X-User-Id": user }) };
    const statuses = await Promise.all(
      Array.from({ length: count }, async () => {
        const body = JSON.stringify({ text: "flood" });
        const response = await fetch(`${example.url}/chat/message`, { method: "POST", headers, body });
        await response.text();
        return response.status;
      }),
    );
    return Object.fromEntries(
      [...new Set(statuses)].map((status) => [status, statuses.filter((s) => s === status).length]),
    );
  }

  test("lets the sixth message wait, whichever processes answered the others, and sends it afterwards", async () => {
    const chat = await open(example.url);
    const answers = [];
    for (const question of QUESTIONS) answers.push(await chat.send(question));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    expect(new Set(answers.map(({ answeredBy }) => answeredBy))).toEqual(new Set(["1", "2", "3"]));
    await advanceLimiter(48);

    const sixth = await chat.send("One more thing: why?");
    expect([sixth.status, sixth.retryAfter, sixth.problem.retry_after_seconds]).toEqual([429, "12", 12]);
    expect(await chat.wait.innerText()).toBe("You're sending messages a bit fast — please wait ~12s");
    expect([await chat.input.isDisabled(), await chat.sendButton.isDisabled()]).toEqual([true, true]);
    expect([await chat.paywall.isVisible(), await chat.notice.isVisible()]).toEqual([false, false]);
    await chat.screenshot("chat-429");

    await chat.advance(11);
    expect(await chat.wait.innerText()).toContain("~1s");
    expect(await chat.input.isDisabled()).toBe(true);
    await advanceLimiter(12);
    await chat.advance(1);
    await chat.wait.waitFor({ state: "detached" });
    expect([await chat.input.isEnabled(), await chat.sendButton.isEnabled()]).toEqual([true, true]);
    expect(await chat.input.evaluate((input) => input === document.activeElement)).toBe(true);
    expect(await chat.input.inputValue()).toBe("One more thing: why?");
    expect((await chat.sendInput()).status).toBe(200);
    expect(await chat.sent.last().innerText()).toBe("One more thing: why?");
    expect([await chat.sent.count(), await chat.answers.count()]).toEqual([6, 6]);
    expect(await chat.input.inputValue()).toBe("");
  });

  test("shows one more second if a message is sent one second too early", async () => {
    const chat = await open(example.url);
    expect(await flood(5)).toEqual({ 200: 5 });
    expect((await chat.send("Now?")).problem.retry_after_seconds).toBe(60);
    expect(await chat.wait.innerText()).toContain("~60s");
    await advanceLimiter(59);
    await chat.advance(60);
    expect((await chat.sendInput()).status).toBe(429);
    expect(await chat.wait.innerText()).toContain("~1s");
    expect(await chat.wait.count()).toBe(1);
  });

  test("serves a signed-in user through a flood of anonymous messages, until the address has had its 30", async () => {
    const chat = await open(example.url);
    await chat.signIn("ann");
    expect(await flood(40)).toEqual({ 200: 5, 429: 35 });
    expect((await chat.send("Can you hear me?")).status).toBe(200);
    // Denied messages count nowhere, so the address has used 6 of its 30.
    for (const user of ["bob", "cem", "dot", "eva"]) expect(await flood(5, user)).toEqual({ 200: 5 });
    expect(await flood(4, "fay")).toEqual({ 200: 4 });
    const denied = await chat.send("And now?");
    expect([denied.status, denied.retryAfter, denied.problem.retry_after_seconds]).toEqual([429, "60", 60]);
    expect(await chat.wait.innerText()).toContain("~60s");
  });

  test("counts each user separately, in any script", async () => {
    const chat = await open(example.url);
    expect(await flood(5)).toEqual({ 200: 5 });
    expect((await chat.send("Hello?")).status).toBe(429);
    await chat.signIn("Žofie 李");
    expect([await chat.wait.count(), await chat.input.isEnabled()]).toEqual([0, true]);
    expect((await chat.send("Hello?")).status).toBe(200);
  });

  test("shows the paywall and no wait once the free messages are used up", async () => {
    const chat = await open(example.url);
    expect(await flood(5)).toEqual({ 200: 5 });
    await advanceLimiter(60);
    for (const question of QUESTIONS.slice(0, FREE_MESSAGES - 5)) expect((await chat.send(question)).status).toBe(200);
    const refused = await chat.send("Is there more of this?");
    expect([refused.status, refused.problem.title, refused.retryAfter]).toEqual([402, "Payment Required", undefined]);
    expect(refused.problem.retry_after_seconds).toBeUndefined();
    expect([await chat.paywall.isVisible(), await chat.wait.count(), await chat.notice.isVisible()]).toEqual([
      true,
      0,
      false,
    ]);
    expect(await chat.paywall.innerText()).toContain(`All ${FREE_MESSAGES} free messages are used up.`);
    expect([await chat.input.isDisabled(), await chat.input.inputValue()]).toEqual([true, "Is there more of this?"]);
    await chat.screenshot("chat-402");
    // If refused messages counted, these would be 429s.
    for (let i = 0; i < 6; i++) expect(await flood(1)).toEqual({ 402: 1 });
  });

  test("shows the wait first if both are due, then the paywall", async () => {
    const chat = await open(example.url);
    expect(await flood(FREE_MESSAGES - 5)).toEqual({ 200: FREE_MESSAGES - 5 });
    await advanceLimiter(60);
    expect(await flood(5)).toEqual({ 200: 5 });
    expect((await chat.send("More?")).status).toBe(429);
    expect([await chat.wait.count(), await chat.paywall.isVisible()]).toEqual([1, false]);
    await advanceLimiter(60);
    await chat.advance(60);
    expect((await chat.sendInput()).status).toBe(402);
    expect([await chat.wait.count(), await chat.paywall.isVisible()]).toEqual([0, true]);
  });

  test("shows messages and answers as text, never as markup", async () => {
    const chat = await open(example.url);
    const markup = `<img src=x onerror="document.title='run'"><b>bold</b>`;
    await chat.send(markup);
    expect(await chat.sent.innerText()).toBe(markup);
    expect(await chat.answers.innerText()).toContain(markup);
    expect(await chat.page.locator("main img, main b").count()).toBe(0);
    expect(await chat.page.title()).toBe("Chat");
    await chat.signIn("<i>ann</i>");
    expect(await chat.page.locator("header i").count()).toBe(0);
  });

  test("runs only its own script", async () => {
    const chat = await open(example.url);
    const violated = chat.page.evaluate(
      () =>
        new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          document.body.append(
            Object.assign(document.createElement("script"), { textContent: "document.title='run'" }),
          );
        }),
    );
    expect(await violated).toBe("script-src-elem");
    expect(await chat.page.title()).toBe("Chat");
    expect(chat.errors.splice(0).join()).toContain("Content Security Policy");
  });

  test.each([
    ["a phone in the light", { viewport: { width: 320, height: 568 }, colorScheme: "light" }],
    ["a phone in the dark", { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true }],
    ["a wide screen", { viewport: { width: 1440, height: 900 }, colorScheme: "light" }],
  ] as const)("fits %s, with the wait and the send button in view", async (_, options) => {
    const chat = await open(example.url, options);
    await chat.signIn("a-name-of-sixty-four-letters-which-is-as-long-as-one-may-be-here");
    await chat.send(`A word that can't be broken: ${"w".repeat(400)}`);
    for (let i = 1; i < 5; i++) await chat.send(`Message ${i}`);
    expect((await chat.send("And one more")).status).toBe(429);
    expect(await chat.isScrollableSideways()).toBe(false);
    for (const part of [chat.wait, chat.sendButton]) expect(await isInView(chat, part)).toBe(true);
  });

  test("follows the light or dark scheme of the system", async () => {
    const brightness = async (colorScheme: "light" | "dark") => {
      const { page } = await open(example.url, { colorScheme });
      return page.evaluate(() => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)?.[0]));
    };
    expect(await brightness("light")).toBeGreaterThan(200);
    expect(await brightness("dark")).toBeLessThan(60);
  });

  test("can be used by keyboard alone", async () => {
    const chat = await open(example.url);
    const { keyboard } = chat.page;
    const focused = () => chat.page.evaluate(() => document.activeElement?.id || document.activeElement?.textContent);
    const order = [await focused()];
    for (const key of ["Tab", "Shift+Tab", "Shift+Tab", "Shift+Tab", "Shift+Tab", "Tab", "Tab", "Tab"]) {
      await keyboard.press(key);
      order.push(await focused());
    }
    const upwards = ["text", "conversation", "Sign in", "user"];
    expect(order).toEqual(["text", "Send", ...upwards, ...upwards.toReversed().slice(1)]);
    await keyboard.type("By hand");
    expect((await chat.sendInput()).status).toBe(200);
    expect(await focused()).toBe("text");
  });
});

async function isInView({ page }: ChatPage, part: ReturnType<ChatPage["page"]["locator"]>): Promise<boolean> {
  const box = await part.boundingBox();
  const { width, height } = page.viewportSize() ?? { width: 0, height: 0 };
  return box !== null && box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
}

describe("when the limiter is killed", () => {
  async function startAndKillLimiter(onError: "deny" | "allow"): Promise<RunningExample> {
    const example = await startChat({ hasTestClock: true, onError });
    await example.limiter.killAll();
    return example;
  }

  test("a chat with on_error deny asks to try again, and keeps the typed message", async () => {
    const example = await startAndKillLimiter("deny");
    const chat = await open(example.url);
    for (let i = 0; i < 3; i++) {
      const { status, retryAfter } = await chat.send("Anybody there?");
      expect([status, retryAfter]).toEqual([503, "1"]);
      expect([await chat.notice.isVisible(), await chat.input.inputValue()]).toEqual([true, "Anybody there?"]);
      expect([await chat.wait.count(), await chat.paywall.isVisible(), await chat.input.isEnabled()]).toEqual([
        0,
        false,
        true,
      ]);
    }
    expect(await chat.sent.count()).toBe(0);

    // The message is also kept when the backend is down.
    await example.stop();
    await chat.input.press("Enter");
    await expect.poll(() => chat.notice.isVisible()).toBe(true);
    expect(await chat.input.inputValue()).toBe("Anybody there?");
    expect(chat.errors.splice(0).join()).toContain("ERR_CONNECTION_REFUSED");
  });

  test("a chat with on_error allow goes on answering from all processes", async () => {
    const example = await startAndKillLimiter("allow");
    const chat = await open(example.url);
    const answers = [];
    for (let i = 1; i <= 3; i++) answers.push(await chat.send(`Message ${i}`));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(new Set(answers.map(({ answeredBy }) => answeredBy)).size).toBe(3);
    expect(await chat.answers.count()).toBe(3);
    expect(await chat.notice.isVisible()).toBe(false);
    await example.stop();
  });
});
