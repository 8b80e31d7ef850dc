import { resolve } from "node:path";
import axe, { type AxeResults } from "axe-core";
import type { Browser, BrowserContextOptions, Locator, Page } from "playwright-core";

const IMAGES = resolve(import.meta.dirname, "../../docs/images");

/** The tags of axe for WCAG 2.2 AA. */
const AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** The console in a browser, used as a person does. The page's clock stands still until the test moves it. */
export class ConsolePage {
  /** Errors of the page: of its scripts, their dialogs, and refusals of the browser. */
  readonly errors: string[] = [];
  readonly requestedUrls: string[] = [];

  private constructor(
    readonly page: Page,
    readonly url: string,
  ) {
    page.on("pageerror", (error) => this.errors.push(error.message));
    page.on("console", (entry) => {
      // The browser also logs answers above 399 as errors.
      if (entry.type() === "error" && !/status of (400|401|403)/.test(entry.text())) this.errors.push(entry.text());
    });
    page.on("dialog", (dialog) => {
      this.errors.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("request", (request) => this.requestedUrls.push(request.url()));
  }

  static async open(
    browser: Browser,
    url: string,
    nowMs: number,
    options: BrowserContextOptions = {},
  ): Promise<ConsolePage> {
    const context = await browser.newContext({ viewport: { width: 1040, height: 720 }, timezoneId: "UTC", ...options });
    const console = new ConsolePage(await context.newPage(), url);
    await console.page.clock.install({ time: nowMs - 3_600_000 });
    await console.page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) =>
        globalThis.console.error(`violated: ${effectiveDirective}`),
      );
    });
    await console.page.goto(`${url}/console`);
    await console.page.clock.pauseAt(nowMs);
    return console;
  }

  get token(): Locator {
    return this.page.getByLabel("Admin token");
  }
  get alert(): Locator {
    return this.page.getByRole("alert").filter({ visible: true });
  }
  /** Waits until the page announces that something was done. */
  announced(text: string | RegExp): Promise<void> {
    return this.page.locator("p.done").filter({ hasText: text, visible: true }).waitFor();
  }

  get dialog(): Locator {
    return this.page.getByRole("dialog");
  }
  get override(): Locator {
    return this.page.getByRole("region", { name: "Override" });
  }

  async signIn(token = "admin-token"): Promise<void> {
    await this.token.fill(token);
    await this.button("Sign in").click();
    await this.heading("Overview").waitFor();
  }

  heading(name: string): Locator {
    return this.page.getByRole("heading", { name, exact: true });
  }

  button(name: string, within: Page | Locator = this.page): Locator {
    return within.getByRole("button", { name, exact: true });
  }

  /** The section of a counter on the page of a key, such as `chat / caller`. */
  counter(name: string): Locator {
    return this.page.getByRole("region", { name, exact: true });
  }

  /** Opens the page of a key by the search field. */
  async showKey(key: string): Promise<void> {
    await this.page.getByRole("searchbox").fill(key);
    await this.button("Show key").click();
    await this.button("Ban…").waitFor();
  }

  async goTo(page: "Overview" | "Policies" | "Overrides" | "Audit"): Promise<void> {
    await this.page.getByRole("link", { name: page, exact: true }).click();
    await this.heading(page).waitFor();
  }

  /** Opens a dialog by its button, fills in its fields by their labels, and confirms it. */
  async confirm(opener: string, action: string, fields: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.button(opener).click();
    for (const [label, value] of Object.entries(fields)) {
      const field = this.dialog.getByLabel(label, { exact: false });
      if ((await field.evaluate(({ tagName }) => tagName)) === "SELECT") await field.selectOption({ label: value });
      else await field.fill(value);
    }
    await this.button(action, this.dialog).click();
  }

  /** Moves the page's clock. */
  async advance(seconds: number): Promise<void> {
    await this.page.clock.runFor(seconds * 1_000);
  }

  /** Whether anything overflows to the right. */
  async isScrollableSideways(): Promise<boolean> {
    return this.page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  }

  /** Where the page violates WCAG AA. */
  async accessibilityViolations(): Promise<string[]> {
    // axe waits by timers, so the clock must run.
    await this.page.clock.resume();
    const { violations } = (await this.page.evaluate(
      `(() => { ${axe.source}; return axe.run(document, ${JSON.stringify({ runOnly: AA })}); })()`,
    )) as AxeResults;
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
  }

  /** Writes an image for the docs if SCREENSHOTS is set. */
  async screenshot(name: string): Promise<void> {
    if (process.env.SCREENSHOTS) await this.page.screenshot({ path: resolve(IMAGES, `${name}.png`) });
  }
}
