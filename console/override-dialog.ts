import { html, nothing, type TemplateResult } from "lit-html";
import type { OverrideKind } from "../src/core/override";
import { limitOf } from "./counters";
import { openDialog } from "./dialog";
import { instantText, limitText, waitText } from "./format";
import type { Surroundings } from "./page";
import { limitTexts } from "./replay";
import type { LayerLimits, LayerState, OverrideRequest, PolicyState } from "./wire";

interface Texts {
  readonly title: string;
  readonly action: string;
  readonly explained: string;
  readonly done: string;
}

const WORDS: Readonly<Record<OverrideKind, Texts>> = {
  ban: {
    title: "Ban this key",
    action: "Ban",
    explained: "Every request that counts by this key is denied until the ban ends or is lifted.",
    done: "The key is banned",
  },
  exempt: {
    title: "Exempt this key",
    action: "Exempt",
    explained: "The counters of this key deny nothing until the exemption ends. They still record each use.",
    done: "The key is exempt",
  },
  limits: {
    title: "Give this key other limits",
    action: "Override",
    explained:
      "These limits replace the policy's limits for this key. A layer that is left empty keeps its own limits.",
    done: "The key has other limits",
  },
};

const LENGTHS_S = [900, 3_600, 21_600, 86_400, 604_800, 2_592_000, 31_536_000] as const;
const AT_AN_INSTANT = "instant";

/** Asks for an override with its reason and its end, and sets it. */
export function openOverrideDialog(
  kind: OverrideKind,
  key: string,
  policies: readonly PolicyState[],
  surroundings: Surroundings,
): void {
  const { title, action, explained, done } = WORDS[kind];
  let length = "3600";
  openDialog({
    title,
    action,
    isDangerous: kind === "ban",
    failed: surroundings.failed,
    body: () => html`
      <p><bdi>${key}</bdi></p>
      <p class="note">${explained}</p>
      ${kind === "limits" ? limitFields(key, policies) : nothing}
      <label>Reason
        <input name="reason" required maxlength="500" autocomplete="off" dir="auto" />
      </label>
      <label>Ends
        <select name="length" @input=${(event: Event) => (length = (event.target as HTMLSelectElement).value)}>
          ${LENGTHS_S.map((seconds) => html`<option value=${seconds} ?selected=${seconds === 3_600}>in ${waitText(seconds * 1_000)}</option>`)}
          <option value=${AT_AN_INSTANT}>at an instant…</option>
        </select>
      </label>
      ${length === AT_AN_INSTANT ? instantField() : nothing}
    `,
    submit: async (form) => {
      const { expires_at } = await surroundings.service.override(key, requestOf(kind, form));
      surroundings.announce(`${done} until ${instantText(Date.parse(expires_at), surroundings.now())}.`);
      await surroundings.reload();
    },
  });
}

function instantField(): TemplateResult {
  return html`<label>Instant, in this device's time
    <input name="instant" type="datetime-local" step="1" required />
  </label>`;
}

function limitFields(key: string, policies: readonly PolicyState[]): TemplateResult {
  const attribute = key.slice(0, key.indexOf(":"));
  return html`
    <fieldset>
      <legend>Limits, like <code>10/minute, 100/hour</code></legend>
      ${policies.map(({ name, layers }) =>
        layers.filter(({ by }) => by.includes(attribute)).map((layer) => limitField(name, layer)),
      )}
    </fieldset>
  `;
}

function limitField(policy: string, { name, limits }: LayerState): TemplateResult {
  const own = limits.map((limit) => limitText(limitOf(limit)));
  return html`
    <label><span>${policy} / ${name} <small>${own.join(", ")}</small></span>
      <input name=${`limits/${policy}/${name}`} autocomplete="off" autocapitalize="none" spellcheck="false" />
    </label>
  `;
}

function requestOf(kind: OverrideKind, form: FormData): OverrideRequest {
  const text = (name: string) => String(form.get(name) ?? "");
  const reason = text("reason").trim();
  const limits = kind === "limits" ? { limits: limitsOf(form) } : {};
  if (text("length") === AT_AN_INSTANT)
    return { kind, reason, ...limits, expires_at: new Date(text("instant")).toISOString() };
  return { kind, reason, ...limits, expires_in_seconds: Number(text("length")) };
}

/** The limits in the fields of the layers. The service validates them. */
function limitsOf(form: FormData): LayerLimits[] {
  return [...form].flatMap(([field, value]) => {
    const [name, policy = "", layer = ""] = field.split("/");
    const limits = limitTexts(String(value));
    return name === "limits" && limits.length > 0 ? [{ policy, layer, limits }] : [];
  });
}
