import { resolve } from "node:path";
import type { Browser, BrowserContextOptions, Locator, Page, Response } from "playwright-core";

const IMAGES = resolve(import.meta.dirname, "../../docs/images");

/** The backend's answer to a message. */
interface Answer {
  readonly status: number;
  readonly answeredBy: string | undefined;
  readonly retryAfter: string | undefined;
  readonly problem: { readonly retry_after_seconds?: number; readonly title?: string };
}

/** The chat in a browser, used as a person does. Its timers stand still until the test moves them. */
export class ChatPage {
  /** Errors of the page: of its scripts, and refusals of the browser. */
  readonly errors: string[] = [];

  private constructor(readonly page: Page) {
    page.on("pageerror", (error) => this.errors.push(error.message));
    page.on("console", (entry) => {
      // The browser also logs answers above 399 as errors.
      if (entry.type() === "error" && !/status of (402|429|503)/.test(entry.text())) this.errors.push(entry.text());
    });
  }

  static async open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<ChatPage> {
    const context = await browser.newContext({
      viewport: { width: 600, height: 560 },
      deviceScaleFactor: 2,
      ...options,
    });
    const chat = new ChatPage(await context.newPage());
    await chat.page.clock.install({ time: 0 });
    await chat.page.goto(url);
    await chat.page.clock.pauseAt(3_600_000);
    return chat;
  }

  get input(): Locator {
    return this.page.getByRole("textbox", { name: "Message" });
  }
  get sendButton(): Locator {
    return this.page.getByRole("button", { name: "Send" });
  }
  /** The inline message of a 429. */
  get wait(): Locator {
    return this.page.getByRole("log").getByText("You're sending messages a bit fast");
  }
  get paywall(): Locator {
    return this.page.getByRole("region", { name: "That was the free part" });
  }
  get notice(): Locator {
    return this.page.getByRole("status").filter({ hasText: "try again in a moment" });
  }
  get sent(): Locator {
    return this.page.locator(".user p");
  }
  get answers(): Locator {
    return this.page.locator(".assistant:not(.wait) p");
  }

  /** Types a message, presses Enter, and waits until the page has handled the answer. */
  async send(text: string): Promise<Answer> {
    await this.input.fill(text);
    return this.sendInput();
  }

  /** Sends the text in the input field. */
  async sendInput(): Promise<Answer> {
    const answered = this.page.waitForResponse((response) => response.url().endsWith("/chat/message"));
    await this.input.press("Enter");
    const response = await answered;
    await this.page.locator('#conversation[aria-busy="false"]').waitFor();
    return answerOf(response);
  }

  async signIn(user: string): Promise<void> {
    await this.page.getByRole("textbox", { name: "User name" }).fill(user);
    await this.page.getByRole("button", { name: "Sign in" }).click();
    await this.page.getByText(`Signed in as ${user}`).waitFor();
  }

  /** Moves the page's clock. */
  async advance(seconds: number): Promise<void> {
    await this.page.clock.runFor(seconds * 1_000);
  }

  /** Whether anything overflows to the right. */
  async isScrollableSideways(): Promise<boolean> {
    return this.page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  }

  /** Writes an image for the docs if SCREENSHOTS is set. */
  async screenshot(name: string): Promise<void> {
    if (process.env.SCREENSHOTS) await this.page.screenshot({ path: resolve(IMAGES, `${name}.png`) });
  }
}

async function answerOf(response: Response): Promise<Answer> {
  const { "x-answered-by": answeredBy, "retry-after": retryAfter } = response.headers();
  const problem = response.ok() ? {} : ((await response.json()) as Answer["problem"]);
  return { status: response.status(), answeredBy, retryAfter, problem };
}
