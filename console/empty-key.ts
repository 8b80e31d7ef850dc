import { html, type TemplateResult } from "lit-html";
import { attributesOf } from "./attributes";
import { limitOf } from "./counters";
import { limitText } from "./format";
import type { PolicyState } from "./wire";

/** Stands in place of the counters of a key that has none, and says what to do. */
export function emptyKeyView(key: string, policies: readonly PolicyState[]): TemplateResult {
  const attribute = key.slice(0, key.indexOf(":"));
  const layers = policies.flatMap(({ name, layers }) =>
    layers.filter(({ by }) => by.includes(attribute)).map((layer) => ({ policy: name, ...layer })),
  );
  if (layers.length === 0)
    return html`<p class="note">No layer counts by <code>${attribute}</code>. ${whatToSearch(policies)}</p>`;
  return html`
    <section class="card" aria-labelledby="empty">
      <h2 id="empty">Nothing is used</h2>
      <p>No event of this key is in any window. If you expect some, check the spelling: <code>User</code> and
        <code>user</code> are different keys. A denied request leaves no event. The buttons above work all the same.</p>
      <table>
        <thead><tr><th>Counted by</th><th>Limits</th></tr></thead>
        <tbody>${layers.map(
          ({ policy, name, limits }) =>
            html`<tr><th scope="row">${policy} / ${name}</th><td>${limits.map((limit) => limitText(limitOf(limit))).join(", ")}</td></tr>`,
        )}</tbody>
      </table>
    </section>
  `;
}

/** Stands in place of everything about a key that is invalid. */
export function invalidKeyView(mistake: string, policies: readonly PolicyState[]): TemplateResult {
  return html`<p class="trouble">${mistake}</p><p class="note">${whatToSearch(policies)}</p>`;
}

function whatToSearch(policies: readonly PolicyState[]): TemplateResult {
  return html`Search above for a user such as <code>u_1</code>, for an address in any spelling, or for an attribute and its
    value such as <code>user:u_1</code>. Layers count by ${attributesOf(policies).join(", ")}.`;
}
