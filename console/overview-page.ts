import { html, nothing, type TemplateResult } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import { count, instantText, plural } from "./format";
import type { Page, Surroundings } from "./page";
import { Plot } from "./plot";
import { hrefOfKey } from "./route";
import { type Series, seriesOf, sum, type Totals, totalsByPolicy } from "./series";
import { type DeniedKey, OUTCOMES, type Outcome, type Stats } from "./wire";

const SPANS = {
  hour: { minutes: 60, minutesEach: 1, everyMs: 5_000 },
  day: { minutes: 1_440, minutesEach: 15, everyMs: 60_000 },
} as const;
type Span = keyof typeof SPANS;

const OUTCOME_NAMES: Readonly<Record<Outcome, string>> = {
  allowed: "allowed",
  replayed: "replayed",
  degraded: "admitted unrecorded",
  shadow_denied: "allowed, denied in shadow",
  denied: "denied",
  denied_at_edge: "denied from cache",
  error: "failed",
};

/** The decisions of the last hour or day, and the keys denied most. */
export class OverviewPage implements Page {
  readonly title = "Overview";
  readonly #plot = new Plot((bucket) => this.#point(bucket));
  #span: Span = "hour";
  #policy: string | null = null;
  #stats: Stats | undefined;
  #series: Series | undefined;
  /** The bucket under the pointer. */
  #bucket: number | undefined;

  constructor(private readonly surroundings: Surroundings) {}

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
    const totals = this.#stats ? totalsByPolicy(this.#stats) : [];
    return html`
      <section class="card" aria-labelledby="decisions">
        <div class="head">
          <h2 id="decisions">Decisions per minute</h2>
          <div class="controls">
            <fieldset class="segments">
              <legend class="hidden">Span</legend>
              ${(Object.keys(SPANS) as Span[]).map((span) => this.#spanView(span))}
            </fieldset>
            <label for="policy">Policy</label>
            <select id="policy" @change=${(event: Event) => this.#setPolicy((event.target as HTMLSelectElement).value)}>
                <option value="">all</option>
                ${totals.map(([policy]) => html`<option value=${policy}>${policy}</option>`)}
            </select>
          </div>
        </div>
        <div class="plot" role="img" aria-label=${this.#summary(totals)} ${ref((host) => this.#plot.host(host))}></div>
        ${this.#legend(totals)}
      </section>
      <div class="columns">
        <section class="card" aria-labelledby="policies">
          <h2 id="policies">By policy, last ${this.#span}</h2>
          ${policyTable(totals)}
        </section>
        <section class="card" aria-labelledby="denied">
          <h2 id="denied">Keys denied most</h2>
          ${this.#stats ? deniedTable(this.#stats) : html`<p class="note">Loading…</p>`}
        </section>
      </div>
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
    const shown = totals.filter(([policy]) => this.#policy === null || policy === this.#policy);
    return shown.reduce((sum, [, total]) => sum + total[outcome], 0);
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

function policyTable(totals: [policy: string, totals: Totals][]): TemplateResult {
  if (totals.length === 0) return html`<p class="note">No decisions yet.</p>`;
  const shown = OUTCOMES.filter((outcome) => totals.some(([, total]) => total[outcome] > 0));
  return html`
    <div class="scroll"><table>
      <thead><tr><th>Policy</th>${shown.map((outcome) => html`<th class="number">${OUTCOME_NAMES[outcome]}</th>`)}<th class="number">all</th></tr></thead>
      <tbody>${totals.map(
        ([policy, total]) =>
          html`<tr><th scope="row">${policy}</th>${shown.map(
            (outcome) => html`<td class="number">${count(total[outcome])}</td>`,
          )}<td class="number">${count(sum(total))}</td></tr>`,
      )}</tbody>
    </table></div>
  `;
}

function deniedTable({ denied_keys, error_at_most }: Stats): TemplateResult {
  if (denied_keys.length === 0) return html`<p class="note">No key was denied.</p>`;
  return html`
    <table>
      <thead><tr><th>Key</th><th>By</th><th class="number">Denied</th></tr></thead>
      <tbody>${denied_keys.map(deniedRow)}</tbody>
    </table>
    ${
      error_at_most > 0
        ? html`<p class="note">Counts are approximate. A key that is not listed was denied at most ${plural(error_at_most, "time")}.</p>`
        : nothing
    }
  `;
}

/** The count is an upper bound. It is too high by `error` at most. */
function deniedRow({ key, policy, layer, count: most, error }: DeniedKey): TemplateResult {
  return html`
    <tr>
      <th scope="row"><a href=${hrefOfKey(key)}><bdi>${key}</bdi></a></th>
      <td>${policy} / ${layer}</td>
      <td class="number">${error > 0 ? `${count(most - error)}–${count(most)}` : count(most)}</td>
    </tr>
  `;
}
