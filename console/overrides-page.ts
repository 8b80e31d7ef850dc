import { html, nothing, type TemplateResult } from "lit-html";
import { confirmLift, KINDS } from "./confirmation";
import { instantText, waitText } from "./format";
import type { Page, Surroundings } from "./page";
import { hrefOfKey } from "./route";
import type { ListedOverride, Override } from "./wire";

/** All overrides in force: who is banned right now? */
export class OverridesPage implements Page {
  readonly title = "Overrides";
  readonly everyMs = 30_000;
  #overrides: readonly ListedOverride[] | undefined;
  #unknownKeys: readonly string[] = [];
  /** How many pages of the service are shown. */
  #pages = 1;
  #hasMore = false;

  constructor(private readonly surroundings: Surroundings) {}

  async load(): Promise<void> {
    const overrides: ListedOverride[] = [];
    const unknownKeys: string[] = [];
    let next: string | null = null;
    for (let page = 0; page < this.#pages && (page === 0 || next !== null); page++) {
      const list = await this.surroundings.service.overrides(next);
      overrides.push(...list.overrides);
      unknownKeys.push(...list.unknown);
      next = list.next;
    }
    this.#overrides = overrides;
    this.#unknownKeys = unknownKeys;
    this.#hasMore = next !== null;
  }

  view(): TemplateResult {
    if (this.#overrides === undefined) return html`<p class="note">Loading…</p>`;
    const nowMs = this.surroundings.now();
    return html`
      <section class="card" aria-label="Overrides in force">
        ${this.#overrides.length > 0 ? this.#table(this.#overrides, nowMs) : this.#emptyView()}
        ${this.#unknownKeys.length > 0 ? unknownView(this.#unknownKeys) : nothing}
        ${this.#hasMore ? html`<p><button type="button" @click=${() => this.#showMore()}>Show more</button></p>` : nothing}
      </section>
      <p class="note">Overrides that were set before orders were recorded are not listed.</p>
    `;
  }

  #emptyView(): TemplateResult {
    if (this.#hasMore) return html`<p class="note">None on this page.</p>`;
    return html`<p class="note">No key is banned, exempt, or has other limits. Search for a key to set an override.</p>`;
  }

  #table(overrides: readonly ListedOverride[], nowMs: number): TemplateResult {
    return html`
      <div class="scroll"><table>
        <thead><tr><th>Key</th><th>Override</th><th>Reason</th><th>Ends</th><th>Ordered by</th><th>Action</th></tr></thead>
        <tbody>${overrides.map((listed) => this.#row(listed, nowMs))}</tbody>
      </table></div>
    `;
  }

  #row({ key, override, ordered_by, ordered_at }: ListedOverride, nowMs: number): TemplateResult {
    const endsAtMs = Date.parse(override.expires_at);
    return html`
      <tr>
        <th scope="row"><a href=${hrefOfKey(key)}><bdi>${key}</bdi></a></th>
        <td>${overrideText(override)}</td>
        <td><bdi>${override.reason}</bdi></td>
        <td>${instantText(endsAtMs, nowMs)}<br /><small>in ${waitText(Math.max(0, endsAtMs - nowMs))}</small></td>
        <td><bdi>${ordered_by ?? "unknown"}</bdi>${
          ordered_at === null ? nothing : html`<br /><small>${instantText(Date.parse(ordered_at), nowMs)}</small>`
        }</td>
        <td><button type="button" aria-label="Lift the override of ${key}"
          @click=${() => confirmLift(key, override.kind, this.surroundings)}>Lift</button></td>
      </tr>
    `;
  }

  async #showMore(): Promise<void> {
    this.#pages += 1;
    await this.surroundings.reload();
  }
}

/** The kind of an override, with its limits. */
export function overrideText({ kind, limits = [] }: Override): TemplateResult {
  return html`${KINDS[kind]}${limits.map(
    ({ policy, layer, limits }) => html`<div><small>${policy} / ${layer}: ${limits.join(", ")}</small></div>`,
  )}`;
}

function unknownView(keys: readonly string[]): TemplateResult {
  return html`<p class="trouble">These keys may have an override. Their objects could not be reached:
    ${keys.map((key) => html`<a href=${hrefOfKey(key)}><bdi>${key}</bdi></a> `)}</p>`;
}
