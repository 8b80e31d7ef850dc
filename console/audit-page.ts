import { html, nothing, type TemplateResult } from "lit-html";
import { instantText } from "./format";
import { overrideText } from "./overrides-page";
import type { Page, Surroundings } from "./page";
import { hrefOfKey } from "./route";
import type { Order, OrderKind } from "./wire";

const ORDERS: Readonly<Record<OrderKind, string>> = {
  set_override: "set an override",
  lift_override: "lifted the override",
  reset_key: "reset the counters",
};

/** What admins ordered in the last 30 days, about one key or all. */
export class AuditPage implements Page {
  readonly title: string;
  readonly everyMs = 15_000;
  #orders: readonly Order[] | undefined;
  /** How many pages of the service are shown. */
  #pages = 1;
  #hasMore = false;

  constructor(
    private readonly surroundings: Surroundings,
    private readonly key: string | undefined,
  ) {
    this.title = key === undefined ? "Audit" : `Audit of ${key}`;
  }

  async load(): Promise<void> {
    const orders: Order[] = [];
    let next: number | null = null;
    for (let page = 0; page < this.#pages && (page === 0 || next !== null); page++) {
      const audit = await this.surroundings.service.audit(this.key, next);
      orders.push(...audit.orders);
      next = audit.next;
    }
    this.#orders = orders;
    this.#hasMore = next !== null;
  }

  view(): TemplateResult {
    if (this.#orders === undefined) return html`<p class="note">Loading…</p>`;
    const nowMs = this.surroundings.now();
    return html`
      ${this.key === undefined ? nothing : html`<p><a href="#/audit">Orders about all keys</a></p>`}
      <section class="card" aria-label="Orders">
        ${
          this.#orders.length > 0
            ? orderTable(this.#orders, nowMs)
            : html`<p class="note">Nothing was ordered in the last 30 days. Overrides, their ends and resets of counters are recorded here.</p>`
        }
        ${this.#hasMore ? html`<p><button type="button" @click=${() => this.#showMore()}>Show more</button></p>` : nothing}
      </section>
    `;
  }

  async #showMore(): Promise<void> {
    this.#pages += 1;
    await this.surroundings.reload();
  }
}

function orderTable(orders: readonly Order[], nowMs: number): TemplateResult {
  return html`
    <div class="scroll"><table>
      <thead><tr><th>At</th><th>Token</th><th>Order</th><th>Key</th><th>Override</th></tr></thead>
      <tbody>${orders.map((order) => orderRow(order, nowMs))}</tbody>
    </table></div>
  `;
}

function orderRow({ at, by, order, key, override, done }: Order, nowMs: number): TemplateResult {
  return html`
    <tr>
      <th scope="row">${instantText(Date.parse(at), nowMs)}</th>
      <td><bdi>${by}</bdi></td>
      <td>${ORDERS[order]} ${done ? nothing : html`<span class="chip">ordered, not known to be done</span>`}</td>
      <td><a href=${hrefOfKey(key)}><bdi>${key}</bdi></a></td>
      <td>${
        override
          ? html`${overrideText(override)}<div>Until ${instantText(Date.parse(override.expires_at), nowMs)}</div>
            <div>Reason: <bdi>${override.reason}</bdi></div>`
          : nothing
      }</td>
    </tr>
  `;
}
