import { html, nothing, type TemplateResult } from "lit-html";
import type { CountedEvent } from "./counters";
import { exactText, limitText, plural } from "./format";
import { parseLimits, type Replayed, replay } from "./replay";

/** A longer list is cut: nobody reads it. */
const MOST_LISTED = 50;

/** Shows which stored events other limits would have denied. */
export class WhatIf {
  #text = "";

  constructor(private readonly render: () => void) {}

  /** `id`: the id of the input field, unique in the page. */
  view(id: string, events: readonly CountedEvent[], nowMs: number): TemplateResult {
    const change = (event: Event) => {
      this.#text = (event.target as HTMLInputElement).value;
      this.render();
    };
    return html`
      <div class="what-if">
        <label for=${id}>What if the limits were</label>
        <input id=${id} .value=${this.#text} @input=${change} placeholder="3/minute, 20/hour" autocomplete="off"
          autocapitalize="none" spellcheck="false" aria-describedby="${id}-answer" />
        <div id="${id}-answer" class="answer" role="status">${this.#answer(events, nowMs)}</div>
      </div>
    `;
  }

  #answer(events: readonly CountedEvent[], nowMs: number): TemplateResult | typeof nothing {
    if (this.#text.trim() === "") return nothing;
    try {
      const limits = parseLimits(this.#text);
      return replayedView(replay(events, limits), limits.map((limit) => limitText(limit)).join(", "), nowMs);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return html`<p class="trouble">${error.message}</p>`;
    }
  }
}

function replayedView(replayed: readonly Replayed[], limits: string, nowMs: number): TemplateResult {
  const denied = replayed.filter(({ allowed }) => !allowed);
  const events = plural(replayed.length, "admitted event");
  if (denied.length === 0) return html`<p>At ${limits}, none of ${events} would have been denied.</p>`;
  return html`
    <p>At ${limits}, <b>${denied.length}</b> of ${events} would have been denied:</p>
    <ul class="moments">
      ${denied.slice(0, MOST_LISTED).map(({ event }) => deniedView(event, nowMs))}
      ${denied.length > MOST_LISTED ? html`<li>and ${denied.length - MOST_LISTED} later events</li>` : nothing}
    </ul>
  `;
}

function deniedView({ atMs, cost, admittedCost = cost }: CountedEvent, nowMs: number): TemplateResult {
  return html`<li>${exactText(atMs, nowMs)}${admittedCost > 1 ? ` (cost ${admittedCost})` : nothing}</li>`;
}
