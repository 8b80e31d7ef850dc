import { html, nothing, type TemplateResult } from "lit-html";
import type { OverrideKind } from "../src/core/override";
import { limitOf } from "./counters";
import { type FieldMistakes, openDialog } from "./dialog";
import { instantText, limitText, waitText } from "./format";
import type { Surroundings } from "./page";
import { limitTexts } from "./replay";
import { Failure, type Mistake } from "./service";
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
  let sent: OverrideRequest | undefined;
  openDialog({
    title,
    action,
    isDangerous: kind === "ban",
    failed: surroundings.failed,
    body: (mistakes) => html`
      <p><bdi>${key}</bdi></p>
      <p class="note">${explained}</p>
      ${kind === "limits" ? limitFields(key, policies, mistakes) : nothing}
      <div class="field">
        <label for="override-reason">Reason</label>
        <input id="override-reason" name="reason" required maxlength="500" autocomplete="off" dir="auto"
          aria-invalid=${mistakes.isWrong("reason")} aria-describedby="mistake-reason" />
        ${mistakes.at("reason")}
      </div>
      ${lengthField(mistakes, (chosen) => (length = chosen))}
      ${length === AT_AN_INSTANT ? instantField(mistakes) : nothing}
    `,
    fieldOf: (mistake) => fieldOf(mistake, sent),
    submit: async (form) => {
      sent = requestOf(kind, form);
      if (sent.limits?.length === 0) throw NO_LIMITS;
      const { expires_at } = await surroundings.service.override(key, sent);
      surroundings.announce(`${done} until ${instantText(Date.parse(expires_at), surroundings.now())}.`);
      await surroundings.reload();
    },
  });
}

const NO_LIMITS = new Failure(0, "", [{ pointer: "/limits", detail: "Write other limits for at least one layer." }]);

/** The field that a mistake in a request is about. */
function fieldOf({ pointer }: Mistake, sent: OverrideRequest | undefined): string | undefined {
  const [, part, index = ""] = pointer.split("/");
  if (part === "reason") return "reason";
  if (part === "expires_at") return "instant";
  if (part === "expires_in_seconds") return "length";
  if (part !== "limits") return undefined;
  const layer = sent?.limits?.[Number(index)];
  return index !== "" && layer ? fieldName(layer.policy, layer.layer) : "limits";
}

function lengthField(mistakes: FieldMistakes, choose: (length: string) => void): TemplateResult {
  return html`
    <div class="field">
      <label for="override-length">Ends</label>
      <select id="override-length" name="length" aria-invalid=${mistakes.isWrong("length")} aria-describedby="mistake-length"
        @input=${(event: Event) => choose((event.target as HTMLSelectElement).value)}>
        ${LENGTHS_S.map((seconds) => html`<option value=${seconds} ?selected=${seconds === 3_600}>in ${waitText(seconds * 1_000)}</option>`)}
        <option value=${AT_AN_INSTANT}>at an instant…</option>
      </select>
      ${mistakes.at("length")}
    </div>
  `;
}

function instantField(mistakes: FieldMistakes): TemplateResult {
  return html`
    <div class="field">
      <label for="override-instant">Instant, in this device's time</label>
      <input id="override-instant" name="instant" type="datetime-local" step="1" required
        aria-invalid=${mistakes.isWrong("instant")} aria-describedby="mistake-instant" />
      ${mistakes.at("instant")}
    </div>
  `;
}

function limitFields(key: string, policies: readonly PolicyState[], mistakes: FieldMistakes): TemplateResult {
  const attribute = key.slice(0, key.indexOf(":"));
  return html`
    <fieldset aria-describedby="mistake-limits">
      <legend>Limits, like <code>10/minute, 100/hour</code></legend>
      ${policies.map(({ name, layers }) =>
        layers.filter(({ by }) => by.includes(attribute)).map((layer) => limitField(name, layer, mistakes)),
      )}
      ${mistakes.at("limits")}
    </fieldset>
  `;
}

function limitField(policy: string, { name, limits }: LayerState, mistakes: FieldMistakes): TemplateResult {
  const own = limits.map((limit) => limitText(limitOf(limit)));
  const field = fieldName(policy, name);
  return html`
    <div class="field">
      <label for="override-${field}">${policy} / ${name} <small>${own.join(", ")}</small></label>
      <input id="override-${field}" name=${field} autocomplete="off" autocapitalize="none" spellcheck="false"
        aria-invalid=${mistakes.isWrong(field) || mistakes.isWrong("limits")} aria-describedby="mistake-${field}" />
      ${mistakes.at(field)}
    </div>
  `;
}

function fieldName(policy: string, layer: string): string {
  return `limits/${policy}/${layer}`;
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
