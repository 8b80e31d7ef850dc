import { html, type TemplateResult } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import { Cut } from "./cut";
import { count, instantText } from "./format";
import { deniedTable, meanings, OUTCOME_NAMES, policyTable } from "./overview-tables";
import type { Page, Surroundings } from "./page";
import { Plot } from "./plot";
import { type Series, seriesOf, type Totals, totalsByPolicy } from "./series";
import { OUTCOMES, type Outcome, type Stats } from "./wire";

const SPANS = {
  hour: { minutes: 60, minutesEach: 1, everyMs: 5_000 },
  day: { minutes: 1_440, minutesEach: 15, everyMs: 60_000 },
} as const;
type Span = keyof typeof SPANS;

const LOADING = html`<p class="note">Loading…</p>`;

/** How many keys are listed at first. */
const MOST_KEYS = 10;
/** With fewer policies their table would leave its half of the page empty. */
const FEW_POLICIES = 5;

/** The decisions of the last hour or day, and the keys denied most. */
export class OverviewPage implements Page {
  readonly title = "Overview";
  readonly #plot = new Plot((bucket) => this.#point(bucket));
  readonly #cut: Cut;
  #span: Span = "hour";
  #policy: string | null = null;
  #stats: Stats | undefined;
  #series: Series | undefined;
  /** The bucket under the pointer. */
  #bucket: number | undefined;

  constructor(private readonly surroundings: Surroundings) {
    this.#cut = new Cut(MOST_KEYS, surroundings.render);
  }

  get everyMs(): number {
    return SPANS[this.#span].everyMs;
  }

  async load(): Promise<void> {
    const span = this.#span;
    const stats = await this.surroundings.service.stats(SPANS[span].minutes);
    if (span !== this.#span) return;
    this.#stats = stats;
    this.#draw();
  }

  leave(): void {
    this.#plot.remove();
  }

  #draw(): void {
    if (this.#stats === undefined) return;
    this.#series = seriesOf(this.#stats, this.#policy, SPANS[this.#span], this.surroundings.now());
    this.#plot.draw(this.#series);
  }

  #point(bucket: number | undefined): void {
    this.#bucket = bucket;
    this.surroundings.render();
  }

  async #setSpan(span: Span): Promise<void> {
    this.#span = span;
    this.surroundings.render();
    await this.surroundings.reload();
  }

  #setPolicy(policy: string): void {
    this.#policy = policy === "" ? null : policy;
    this.#draw();
    this.surroundings.render();
  }

  view(): TemplateResult {
    const stats = this.#stats;
    const all = stats ? totalsByPolicy(stats) : [];
    const totals = all.filter(([policy]) => this.#policy === null || policy === this.#policy);
    const isShort = totals.length < FEW_POLICIES || this.#cut.isWhole;
    return html`
      <section class="card" aria-labelledby="decisions">
        <div class="head">
          <h2 id="decisions">Decisions per minute, last ${this.#span}</h2>
          <div class="controls">
            <fieldset class="segments">
              <legend class="hidden">Span</legend>
              ${(Object.keys(SPANS) as Span[]).map((span) => this.#spanView(span))}
            </fieldset>
            ${this.#policyChoice(all)}
          </div>
        </div>
        <div class="plot" role="img" aria-label=${this.#summary(totals)} ${ref((host) => this.#plot.host(host))}></div>
        ${this.#legend(totals)}
        ${meanings()}
      </section>
      <div class=${isShort ? "" : "columns"}>
        <section class="card" aria-labelledby="policies">
          <h2 id="policies">By policy, last ${this.#span}</h2>
          ${stats ? policyTable(totals, this.#policy, this.#span) : LOADING}
        </section>
        <section class="card" aria-labelledby="denied">
          <h2 id="denied">Keys denied most, last day</h2>
          ${stats ? deniedTable(stats, this.#policy, this.#cut) : LOADING}
        </section>
      </div>
    `;
  }

  /** Offers every policy that has a figure on the page, and the one that was chosen. */
  #policyChoice(totals: readonly [policy: string, totals: Totals][]): TemplateResult {
    const chosen = this.#policy === null ? [] : [this.#policy];
    const denied = (this.#stats?.denied_keys ?? []).map(({ policy }) => policy);
    const policies = [...new Set([...totals.map(([policy]) => policy), ...denied, ...chosen])].sort();
    return html`
      <div class="choice"><label for="policy">Policy</label>
      <select id="policy" @change=${(event: Event) => this.#setPolicy((event.target as HTMLSelectElement).value)}>
        <option value="">all</option>
        ${policies.map((policy) => html`<option value=${policy} ?selected=${policy === this.#policy}>${policy}</option>`)}
      </select></div>
    `;
  }

  #spanView(span: Span): TemplateResult {
    return html`<label><input type="radio" name="span" .checked=${span === this.#span}
      @change=${() => void this.#setSpan(span)} />last ${span}</label>`;
  }

  #summary(totals: [string, Totals][]): string {
    const outcomes = OUTCOMES.map((outcome) => [outcome, this.#total(totals, outcome)] as const);
    const texts = outcomes
      .filter(([, total]) => total > 0)
      .map(([outcome, total]) => `${count(total)} ${OUTCOME_NAMES[outcome]}`);
    return `Decisions of the last ${this.#span}: ${texts.join(", ") || "none"}`;
  }

  #total(totals: [string, Totals][], outcome: Outcome): number {
    return totals.reduce((sum, [, total]) => sum + total[outcome], 0);
  }

  #legend(totals: [string, Totals][]): TemplateResult {
    const bucket = this.#bucket;
    const beginsAt = bucket === undefined ? undefined : this.#series?.startsAtSeconds[bucket];
    const value = (outcome: Outcome) =>
      bucket === undefined ? this.#total(totals, outcome) : (this.#series?.rates[outcome][bucket] ?? 0);
    const shown = OUTCOMES.filter(
      (outcome) => outcome === "allowed" || outcome === "denied" || this.#total(totals, outcome) > 0,
    );
    const when =
      beginsAt === undefined
        ? `In the last ${this.#span}`
        : `${instantText(beginsAt * 1_000, this.surroundings.now())}, per minute`;
    return html`<div class="legend"><span class="when">${when}:</span> ${shown.map(
      (outcome) =>
        html`<span><i class="swatch ${outcome}"></i>${OUTCOME_NAMES[outcome]} <b>${count(value(outcome))}</b></span>`,
    )}</div>`;
  }
}
