import { html, nothing, type TemplateResult } from "lit-html";
import type { Cut } from "./cut";
import { count, plural } from "./format";
import { hrefOfKey } from "./route";
import { sum, type Totals } from "./series";
import { type DeniedKey, OUTCOMES, type Outcome, type Stats } from "./wire";

export const OUTCOME_NAMES: Readonly<Record<Outcome, string>> = {
  allowed: "allowed",
  replayed: "replayed",
  degraded: "admitted unrecorded",
  shadow_denied: "allowed, denied in shadow",
  denied: "denied",
  denied_at_edge: "denied from cache",
  error: "failed",
};

const MEANINGS: Readonly<Record<Outcome, string>> = {
  allowed: "every limit admitted the request, and it was recorded",
  replayed: "the idempotency key was admitted before, so nothing was charged again",
  degraded: "an object did not answer, and the service is set to admit then; nothing was recorded",
  shadow_denied: "admitted; a layer in shadow would have denied it",
  denied: "a limit or a ban denied it; nothing was recorded",
  denied_at_edge: "denied like the moment before, from memory, without asking an object",
  error: "not decided, since an object did not answer or the service failed",
};

/** Says what the outcomes mean. */
export function meanings(): TemplateResult {
  return html`
    <details class="meanings">
      <summary>What the outcomes mean</summary>
      <dl>${OUTCOMES.map(
        (outcome) =>
          html`<div><dt><i class="swatch ${outcome}"></i>${OUTCOME_NAMES[outcome]}</dt><dd>${MEANINGS[outcome]}</dd></div>`,
      )}</dl>
    </details>
  `;
}

/** A row for each policy. `policy`: the only one to show; null for all. */
export function policyTable(
  totals: readonly [policy: string, totals: Totals][],
  policy: string | null,
  span: "hour" | "day",
): TemplateResult {
  if (totals.length === 0) return noDecisions(policy, span);
  const shown = OUTCOMES.filter((outcome) => totals.some(([, total]) => total[outcome] > 0));
  const cell = (label: string, value: number) => html`<td class="number" data-label=${label}>${count(value)}</td>`;
  return html`
    <table class="outcomes stacked">
      <thead><tr><th>Policy</th>${shown.map((outcome) => html`<th class="number">${OUTCOME_NAMES[outcome]}</th>`)}<th class="number">all</th></tr></thead>
      <tbody>${totals.map(
        ([policy, total]) =>
          html`<tr><th scope="row">${policy}</th>${shown.map((outcome) =>
            cell(OUTCOME_NAMES[outcome], total[outcome]),
          )}${cell("all", sum(total))}</tr>`,
      )}</tbody>
    </table>
  `;
}

function noDecisions(policy: string | null, span: "hour" | "day"): TemplateResult {
  const choices = [...(policy === null ? [] : ["all policies"]), ...(span === "day" ? [] : ["the last day"])];
  return html`<p class="note">No decisions${policy === null ? nothing : ` of ${policy}`} in the last ${span}.
    ${choices.length > 0 ? `Choose ${choices.join(" or ")}, or send` : "Send"} a <code>POST /v1/consume</code>: it
    appears here within seconds.</p>`;
}

/** The keys denied most by a policy, or by any (null). The service counts them over the last day. */
export function deniedTable({ denied_keys, error_at_most }: Stats, policy: string | null, cut: Cut): TemplateResult {
  const denied = denied_keys.filter((key) => policy === null || key.policy === policy);
  if (denied.length === 0)
    return html`<p class="note">${policy === null ? "No key was denied in the last day." : `No key that is listed was denied by ${policy}.`}
      A key appears here with its denials. To see any other, search for it above.</p>`;
  return html`
    <table>
      <thead><tr><th>Key</th><th>By</th><th class="number">Denied</th></tr></thead>
      <tbody>${cut.shown(denied).map(deniedRow)}</tbody>
    </table>
    ${cut.button(denied, "keys")}
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
