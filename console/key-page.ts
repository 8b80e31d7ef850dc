import { html, nothing, type TemplateResult } from "lit-html";
import { LARGEST_MAX } from "../src/core/limit";
import type { OverrideKind } from "../src/core/override";
import { confirmAction, confirmLift, KINDS } from "./confirmation";
import { eventTable, legend, limitView, waitView } from "./counter-view";
import { admittedIn, isOverridden, largestCostOf, limitOf, type Wait, waitOfCounter } from "./counters";
import { Cut } from "./cut";
import { denialsView } from "./denials";
import { emptyKeyView, invalidKeyView } from "./empty-key";
import { instantText, plural, waitText } from "./format";
import { openOverrideDialog } from "./override-dialog";
import type { Page, Surroundings } from "./page";
import { hrefOfAudit, hrefOfKey } from "./route";
import { Failure } from "./service";
import { WhatIf } from "./what-if";
import type { CounterState, KeyState, LayerLimits, Override, PolicyState } from "./wire";

/** How many events of a counter are listed at first. */
const MOST_EVENTS = 20;

/** The page of a key: its limits with their moving windows, and actions such as overrides. */
export class KeyPage implements Page {
  readonly everyMs = 2_000;
  readonly title: string;
  #state: KeyState | undefined;
  /** Why the key is invalid. Empty if it is valid. */
  #mistake = "";
  #policies: readonly PolicyState[] = [];
  #cost = 1;
  /** By counter, so that each keeps its input. */
  readonly #whatIfs = new Map<string, WhatIf>();
  /** The counters whose events are shown. */
  readonly #opened = new Set<string>();
  readonly #cuts = new Map<string, Cut>();

  constructor(
    private readonly surroundings: Surroundings,
    private readonly key: string,
  ) {
    this.title = key;
  }

  async load(): Promise<void> {
    const { service } = this.surroundings;
    if (this.#policies.length === 0) this.#policies = (await service.policies()).policies;
    try {
      this.#state = await service.key(this.key);
      this.#mistake = "";
    } catch (error) {
      if (!(error instanceof Failure) || error.status !== 400) throw error;
      // Another spelling: its page stays out of the browser's history.
      if (error.normalKey !== undefined) location.replace(hrefOfKey(error.normalKey));
      else this.#mistake = error.message;
    }
  }

  view(): TemplateResult {
    if (this.#mistake !== "") return invalidKeyView(this.#mistake, this.#policies);
    if (this.#state === undefined) return html`<p class="note">Loading…</p>`;
    const { counters, override } = this.#state;
    const nowMs = this.surroundings.now();
    return html`
      ${override ? this.#overrideView(override, nowMs) : nothing}
      ${this.#actions(override)}
      ${
        counters.length === 0
          ? emptyKeyView(this.key, this.#policies)
          : html`
            <label class="cost">When does a cost of
              <input type="number" min="1" max=${String(LARGEST_MAX)} inputmode="numeric" .value=${String(this.#cost)}
                @input=${(event: Event) => this.#setCost(event.target as HTMLInputElement)} /> fit?
            </label>
            ${legend()}
            ${counters.map((counter) => this.#counterView(counter, override, nowMs))}
          `
      }
      ${denialsView(this.#state, nowMs)}
      <p><a href=${hrefOfAudit(this.key)}>Orders about this key</a></p>
    `;
  }

  #setCost({ valueAsNumber }: HTMLInputElement): void {
    if (!Number.isInteger(valueAsNumber) || valueAsNumber < 1) return;
    this.#cost = valueAsNumber;
    this.surroundings.render();
  }

  #overrideView({ kind, reason, expires_at, limits = [] }: Override, nowMs: number): TemplateResult {
    const endsAtMs = Date.parse(expires_at);
    return html`
      <section class="card override ${kind}" aria-label="Override">
        <p><b>${KINDS[kind]}</b> until ${instantText(endsAtMs, nowMs)}, for another ${waitText(Math.max(0, endsAtMs - nowMs))}</p>
        ${limits.map(({ policy, layer, limits }: LayerLimits) => html`<p>${policy} / ${layer}: ${limits.join(", ")}</p>`)}
        <p>Reason: <bdi>${reason}</bdi></p>
        <button type="button" @click=${() => confirmLift(this.key, kind, this.surroundings)}>Lift</button>
      </section>
    `;
  }

  #actions(override: Override | null): TemplateResult {
    const open = (kind: OverrideKind) => () => openOverrideDialog(kind, this.key, this.#policies, this.surroundings);
    return html`
      <div class="actions" role="group" aria-label="Actions">
        <button type="button" @click=${open("limits")}>Override limits…</button>
        <button type="button" @click=${open("exempt")}>Exempt…</button>
        <button type="button" class="danger" @click=${open("ban")}>${override?.kind === "ban" ? "Ban again…" : "Ban…"}</button>
        <button type="button" class="danger" @click=${() => this.#forget()}>Reset counters…</button>
      </div>
    `;
  }

  #counterView(counter: CounterState, override: Override | null, nowMs: number): TemplateResult {
    const { policy, layer, limits } = counter;
    const name = `${policy}-${layer}`;
    const wait = this.#waitOf(counter, override, nowMs);
    return html`
      <section class="card" aria-labelledby="${name}-title">
        <div class="head">
          <h2 id="${name}-title">${policy} / ${layer}</h2>
          ${override && isOverridden(counter, override) ? html`<span class="chip">${KINDS[override.kind].toLowerCase()}</span>` : nothing}
        </div>
        ${waitView(wait, this.#cost, nowMs)}
        <div class="limits">${limits.map((limit) => limitView(counter, limit, this.#cost, nowMs))}</div>
        <details @toggle=${(event: Event) => this.#toggle(name, event.target as HTMLDetailsElement)}>
          <summary>${plural(counter.events_total, "event")}, and when each leaves</summary>
          ${this.#opened.has(name) ? eventTable(counter, this.#cut(name), nowMs) : nothing}
        </details>
        ${this.#whatIf(name).view(`${name}-what-if`, admittedIn(counter), nowMs)}
      </section>
    `;
  }

  #waitOf(counter: CounterState, override: Override | null, nowMs: number): Wait {
    const policy = this.#policies.find(({ name }) => name === counter.policy);
    if (policy && this.#cost > largestCostOf(policy)) return { kind: "never" };
    const ownLimits = policy?.layers.find(({ name }) => name === counter.layer)?.limits.map(limitOf) ?? [];
    return waitOfCounter(counter, ownLimits, override, this.#cost, nowMs);
  }

  #whatIf(name: string): WhatIf {
    const whatIf = this.#whatIfs.get(name) ?? new WhatIf(() => this.surroundings.render());
    this.#whatIfs.set(name, whatIf);
    return whatIf;
  }

  #cut(name: string): Cut {
    const cut = this.#cuts.get(name) ?? new Cut(MOST_EVENTS, () => this.surroundings.render());
    this.#cuts.set(name, cut);
    return cut;
  }

  #toggle(name: string, { open }: HTMLDetailsElement): void {
    if (open) this.#opened.add(name);
    else this.#opened.delete(name);
    this.surroundings.render();
  }

  #forget(): void {
    const action = {
      title: "Reset the counters of this key",
      action: "Reset",
      consequence: "The service forgets all events of this key, with their idempotency keys. An override stays.",
      done: "The counters are reset.",
      work: () => this.surroundings.service.forget(this.key),
    };
    confirmAction(this.key, action, this.surroundings);
  }
}
