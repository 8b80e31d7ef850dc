import { html, nothing, render, type TemplateResult } from "lit-html";
import { attributesOf } from "./attributes";
import { AuditPage } from "./audit-page";
import { ServiceClock } from "./clock";
import { closeDialogs } from "./dialog";
import { KeyPage } from "./key-page";
import { OverridesPage } from "./overrides-page";
import { OverviewPage } from "./overview-page";
import type { Page, Surroundings } from "./page";
import { PoliciesPage } from "./policies-page";
import { Poll } from "./poll";
import { hrefOfKey, keyOf, routeOf } from "./route";
import { Failure, Service } from "./service";
import { signInView } from "./sign-in";

const TOKEN = "limiter-admin-token";

/** How often the page is rendered anew as time passes, whether or not there is new data. */
const TICK_MS = 1_000;

/** The console: the sign-in, the current page, and the frame of all pages. */
export class App {
  readonly #clock = new ServiceClock();
  #service: Service | undefined;
  #attributes: readonly string[] = [];
  #page: Page | undefined;
  #polls: Poll[] = [];
  /** Why the token was refused. */
  #refusal = "";
  #trouble = "";
  #announcement = "";

  constructor(
    private readonly root: HTMLElement,
    private readonly storage: Storage,
  ) {}

  start(): void {
    window.addEventListener("hashchange", () => {
      closeDialogs();
      this.#show();
      document.querySelector("h1")?.focus();
    });
    const token = this.storage.getItem(TOKEN);
    if (token === null) this.#render();
    else this.#enter(token);
  }

  /** Signs in if the token is an admin token. */
  async #signIn(token: string): Promise<void> {
    try {
      await new Service(token, this.#clock).key("user:console", 0);
      this.storage.setItem(TOKEN, token);
      this.#enter(token);
      document.querySelector("h1")?.focus();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#refusal = refusalOf(error);
      this.#render();
    }
  }

  #enter(token: string): void {
    this.#refusal = "";
    this.#service = new Service(token, this.#clock);
    this.#show();
  }

  #leave(refusal = ""): void {
    this.storage.removeItem(TOKEN);
    this.#refusal = refusal;
    this.#service = undefined;
    closeDialogs();
    this.#show();
    document.querySelector("input")?.focus();
  }

  #show(): void {
    for (const poll of this.#polls) poll.stop();
    this.#page?.leave?.();
    this.#polls = [];
    this.#trouble = "";
    this.#announcement = "";
    this.#page = this.#service && this.#pageOf(this.#service);
    if (this.#page) this.#polls = this.#pollsOf(this.#page);
    else this.#render();
  }

  #pollsOf(page: Page): Poll[] {
    const load = () => this.#load();
    const tick = () => this.#render();
    return [new Poll(load, () => page.everyMs), new Poll(tick, () => TICK_MS)];
  }

  #pageOf(service: Service): Page {
    const surroundings: Surroundings = {
      service,
      now: () => this.#clock.now(),
      render: () => this.#render(),
      reload: () => this.#load(),
      announce: (message) => {
        this.#announcement = message;
        this.#render();
      },
      failed: (error) => this.#failed(error),
    };
    const route = routeOf(location.hash);
    if (route.page === "policies") return new PoliciesPage(surroundings);
    if (route.page === "overrides") return new OverridesPage(surroundings);
    if (route.page === "audit") return new AuditPage(surroundings, route.key);
    if (route.page === "key") return new KeyPage(surroundings, route.key);
    return new OverviewPage(surroundings);
  }

  async #load(): Promise<void> {
    const page = this.#page;
    try {
      await this.#loadAttributes();
      await page?.load();
      this.#trouble = "";
    } catch (error) {
      if (page !== this.#page) return;
      this.#failed(error);
    }
    this.#render();
  }

  async #loadAttributes(): Promise<void> {
    if (this.#service && this.#attributes.length === 0)
      this.#attributes = attributesOf((await this.#service.policies()).policies);
  }

  #failed(error: unknown): void {
    if (!(error instanceof Failure)) throw error;
    if (error.isTokenRefused) this.#leave(refusalOf(error));
    else this.#trouble = error.message;
  }

  #render(): void {
    const page = this.#page;
    document.title = page ? `${page.title} · Limiter console` : "Limiter console";
    render(page ? this.#frame(page) : signInView(this.#refusal, (token) => this.#signIn(token)), this.root);
  }

  #frame(page: Page): TemplateResult {
    return html`
      <a class="skip" href="#content" @click=${skip}>Skip to the content</a>
      <header class="bar">
        <div class="inner">
          <nav aria-label="Pages">
            <a href="#/" aria-current=${page instanceof OverviewPage ? "page" : nothing}>Overview</a>
            <a href="#/policies" aria-current=${page instanceof PoliciesPage ? "page" : nothing}>Policies</a>
            <a href="#/overrides" aria-current=${page instanceof OverridesPage ? "page" : nothing}>Overrides</a>
            <a href="#/audit" aria-current=${page instanceof AuditPage ? "page" : nothing}>Audit</a>
          </nav>
          <form role="search" class="search" @submit=${(event: SubmitEvent) => void this.#search(event)}>
            <label class="hidden" for="search">Key, user or address</label>
            <input id="search" name="key" type="search" placeholder="User, address or key" autocomplete="off"
              autocapitalize="none" spellcheck="false" required dir="auto" />
            <button>Show key</button>
          </form>
          <button type="button" class="quiet" @click=${() => this.#leave()}>Sign out</button>
        </div>
      </header>
      <main id="content" class="inner" tabindex="-1">
        <div class="notices">
          <p role="alert" class="trouble" ?hidden=${this.#trouble === ""}>${this.#trouble}</p>
          <p role="status" class="done" ?hidden=${this.#announcement === ""}>${this.#announcement}</p>
        </div>
        <h1 tabindex="-1"><bdi>${page.title}</bdi></h1>
        ${page.view()}
      </main>
    `;
  }

  async #search(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const text = String(new FormData(form).get("key"));
    try {
      // Without the attributes, `ip:…` would be taken for a user of that name.
      await this.#loadAttributes();
    } catch (error) {
      this.#failed(error);
      return this.#render();
    }
    form.reset();
    if (text.trim() !== "") location.hash = hrefOfKey(keyOf(text, this.#attributes));
  }
}

/** Moves the focus without changing the URL's fragment, which names the page. */
function skip(event: Event): void {
  event.preventDefault();
  document.querySelector("main")?.focus();
}

function refusalOf({ status, message }: Failure): string {
  if (status === 401)
    return "This token is not valid. It is wrong or was replaced. Sign in with a current admin token.";
  if (status === 403) return "This is no admin token. The console needs one.";
  return message;
}
