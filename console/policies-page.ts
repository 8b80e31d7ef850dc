import { html, nothing, type TemplateResult } from "lit-html";
import { limitOf } from "./counters";
import { limitText } from "./format";
import type { Page, Surroundings } from "./page";
import type { LayerState, PolicyState } from "./wire";

/** The policies in force. */
export class PoliciesPage implements Page {
  readonly title = "Policies";
  readonly everyMs = 30_000;
  #policies: readonly PolicyState[] | undefined;

  constructor(private readonly surroundings: Surroundings) {}

  async load(): Promise<void> {
    this.#policies = (await this.surroundings.service.policies()).policies;
  }

  view(): TemplateResult {
    return html`
      <p class="note intro">A request is admitted if every limit of every live layer admits it. A layer counts by the first of its
        attributes that is present. A layer in <span class="chip">shadow</span> counts, and denies nothing.</p>
      <div class="policies">${this.#policies?.map(policyView) ?? html`<p class="note">Loading…</p>`}</div>
    `;
  }
}

function policyView({ name, layers }: PolicyState): TemplateResult {
  return html`
    <section class="card" aria-label="Policy ${name}">
      <h2>${name}</h2>
      <table class="layers">
        <thead><tr><th>Layer</th><th>Counts by</th><th>Limits</th></tr></thead>
        <tbody>${layers.map(layerView)}</tbody>
      </table>
    </section>
  `;
}

function layerView({ name, by, mode, limits }: LayerState): TemplateResult {
  return html`
    <tr>
      <th scope="row">${name} ${mode === "shadow" ? html`<span class="chip">shadow</span>` : nothing}</th>
      <td>${by.join(", else ")}</td>
      <td>${limits.map((limit) => html`<div>${limitText(limitOf(limit))}</div>`)}</td>
    </tr>
  `;
}
