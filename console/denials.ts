import { html, nothing, type TemplateResult } from "lit-html";
import { limitOf } from "./counters";
import { count, exactText, instantText, limitText } from "./format";
import type { Denial, KeyState } from "./wire";

/** The last denials of a key that its object remembers. */
export function denialsView({ denials = [], denials_since }: KeyState, nowMs: number): TemplateResult {
  return html`
    <section class="card" aria-labelledby="denials">
      <h2 id="denials">Last denials</h2>
      ${denials.length > 0 ? denialTable(denials, nowMs) : html`<p class="note">None is remembered.</p>`}
      <p class="note">${sourceText(denials_since ?? null, nowMs)}</p>
    </section>
  `;
}

function sourceText(since: string | null, nowMs: number): string {
  if (since === null) return "The object of this key can't say yet: a deploy is under way.";
  return `From the memory of the key's object, which begins at ${instantText(Date.parse(since), nowMs)}. Denials before that are unknown, and denials from the cache are not listed.`;
}

function denialTable(denials: readonly Denial[], nowMs: number): TemplateResult {
  return html`
    <div class="scroll"><table>
      <thead><tr><th>At</th><th>Policy</th><th class="number">Cost</th><th>Limits that did not admit it</th></tr></thead>
      <tbody>${denials.map((denial) => denialRow(denial, nowMs))}</tbody>
    </table></div>
  `;
}

function denialRow({ at, policy, cost, shadow, limits }: Denial, nowMs: number): TemplateResult {
  return html`
    <tr>
      <th scope="row">${exactText(Date.parse(at), nowMs)}</th>
      <td>${policy} ${shadow ? html`<span class="chip">shadow</span>` : nothing}</td>
      <td class="number">${costView(cost)}</td>
      <td>${limits.map(limitLine)}</td>
    </tr>
  `;
}

function costView(cost: Denial["cost"]) {
  if (typeof cost === "number") return count(cost);
  return Object.entries(cost).map(([layer, ofLayer]) => html`<div>${layer}: ${count(ofLayer)}</div>`);
}

function limitLine({ layer, used, full, override, ...limit }: Denial["limits"][number]): TemplateResult {
  const text =
    override === "ban"
      ? "banned"
      : `${limitText(limitOf(limit))}, ${count(used)} used${full ? ", no room for another event" : ""}`;
  return html`<div>${layer}: ${text}</div>`;
}
