import { resolve } from "node:path";
import { type Browser, chromium, type Locator, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startLlm } from "../../scripts/example/llm";
import type { RunningExample } from "../../scripts/example/running";
import { CHROMIUM_ARGUMENTS, ensureChromium } from "./chromium";

const IMAGES = resolve(import.meta.dirname, "../../docs/images");

/** Six tokens. The model answers it with at most as many as were asked for. */
const NOVEL = "Write a novel about a limiter.";
const PROMPT_TOKENS = 6;
const PRICE = { prompt: 2, answer: 10 };

let browser: Browser;
let example: RunningExample;
let page: Page;
let errors: string[];

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: ensureChromium(), args: CHROMIUM_ARGUMENTS });
  example = await startLlm({ hasTestClock: true, tokenMs: 20 });
});
afterAll(async () => {
  await browser?.close();
  await example?.stop();
});

beforeEach(async () => {
  expect((await example.limiter.fetch("/test/reset", { method: "POST" })).status).toBe(204);
  page = await browser.newPage({ viewport: { width: 640, height: 620 } });
  errors = [];
  page.on("pageerror", ({ message }) => errors.push(message));
  await page.goto(example.url);
  await expect.poll(left).toEqual({ requests: 10, tokens: 1_000, budget: 20_000 });
});
afterEach(async () => {
  await page.close();
  expect(errors).toEqual([]);
});

const button = (name: string): Locator => page.getByRole("button", { name });
const answer = () => page.locator("#answer").innerText();
const notice = () => page.getByRole("status").innerText();

/** What the page says is left. */
async function left(): Promise<Record<string, number>> {
  const meters = await page.locator("dd").evaluateAll((rows) =>
    rows.map((row): [string, number] => {
      const { name = "" } = (row as HTMLElement).dataset;
      return [name, (row.querySelector("meter") as HTMLMeterElement).value];
    }),
  );
  return Object.fromEntries(meters);
}

async function ask(prompt: string, mostTokens: number): Promise<void> {
  await page.getByLabel("Question").fill(prompt);
  await page.getByLabel("Tokens at most").fill(String(mostTokens));
  await button("Ask").click();
}

async function askAndWait(prompt: string, mostTokens: number): Promise<void> {
  await ask(prompt, mostTokens);
  await expect.poll(() => button("Ask").isEnabled(), { timeout: 30_000 }).toBe(true);
}

/** What is left of each limit after one question was answered with so many tokens. */
function leftAfter(answerTokens: number, promptTokens = PROMPT_TOKENS): Record<string, number> {
  return {
    requests: 9,
    tokens: 1_000 - promptTokens - answerTokens,
    budget: 20_000 - promptTokens * PRICE.prompt - answerTokens * PRICE.answer,
  };
}

describe("a gateway in front of a language model", () => {
  test("reserves the most that an answer can cost, and gives back what it did not use", async () => {
    await ask("What is a limiter?", 300);
    await expect.poll(left).toEqual(leftAfter(300, 4));
    await expect.poll(() => button("Ask").isEnabled(), { timeout: 30_000 }).toBe(true);
    const words = (await answer()).trim().split(/\s+/).length;
    expect(words).toBeGreaterThan(4);
    await expect.poll(left).toEqual(leftAfter(words, 4));
  });

  test("charges only what was written when the reader hangs up", async () => {
    await ask(NOVEL, 500);
    await expect.poll(async () => (await answer()).split(/\s+/).length).toBeGreaterThan(5);
    await button("Stop").click();
    await expect.poll(notice).toBe("Stopped.");
    const shown = (await answer()).trim().split(/\s+/).length;
    // The page may ask what is left before the gateway knows that the reader has gone.
    await expect.poll(async () => (await leftOf("ann")).tokens).toBeGreaterThan(1_000 - PROMPT_TOKENS - 500);
    const { tokens = 0, ...others } = await leftOf("ann");
    const written = 1_000 - PROMPT_TOKENS - tokens;
    expect(written).toBeGreaterThanOrEqual(shown);
    expect(written).toBeLessThan(500);
    expect({ tokens, ...others }).toEqual(leftAfter(written));
  });

  test("charges nothing for a question that has no room in one of the limits, and says how long to wait", async () => {
    const other = new AbortController();
    const headers = { "Content-Type": "application/json", "X-User-Id": "ann" };
    const body = JSON.stringify({ prompt: NOVEL, max_tokens: 800 });
    // Answered by the other gateway, and still being written.
    const response = await fetch(`${example.url}/complete`, { method: "POST", headers, body, signal: other.signal });
    expect(response.status).toBe(200);
    await askAndWait(NOVEL, 200);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: resolve(IMAGES, "llm.png") });
    expect(await notice()).toBe("Not enough is left of: tokens this minute. Ask again in 60 s, or for fewer tokens.");
    await expect.poll(left).toEqual(leftAfter(800));
    await askAndWait("Hi", 20);
    expect(await notice()).toBe("");
    other.abort();
    await expect.poll(async () => (await leftOf("ann")).tokens).toBeGreaterThan(200);
  });

  test("fits a phone, in the light and in the dark", async () => {
    await page.setViewportSize({ width: 360, height: 640 });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      const isWide = () => document.documentElement.scrollWidth > document.documentElement.clientWidth;
      expect(await page.evaluate(isWide)).toBe(false);
    }
  });

  test("counts each user separately", async () => {
    await askAndWait("What is a limiter?", 50);
    await page.getByLabel("User").selectOption("ben");
    await expect.poll(left).toEqual({ requests: 10, tokens: 1_000, budget: 20_000 });
  });
});

/** What the gateway says is left. */
async function leftOf(user: string): Promise<Record<string, number>> {
  const response = await fetch(`${example.url}/left`, { headers: { "X-User-Id": user } });
  const limits = (await response.json()) as { name: string; left: number }[];
  return Object.fromEntries(limits.map(({ name, left }) => [name, left]));
}
