import { html, nothing, type TemplateResult } from "lit-html";
import type { Limit } from "../src/core/limit";
import { eventsOf, inWindow, isCostLimit, isWhole, limitOf, type Wait, waitOf, weightOf } from "./counters";
import type { Cut } from "./cut";
import { count, exactText, instantText, limitText, plural, waitText, windowText } from "./format";
import { timeline } from "./timeline";
import type { CounterState, LimitState, StoredEvent } from "./wire";

/** One limit of a counter: its standing, and its window. */
export function limitView(counter: CounterState, state: LimitState, cost: number, nowMs: number): TemplateResult {
  const limit = limitOf(state);
  const used = isWhole(counter, limit, nowMs) ? usedOf(counter, limit, nowMs) : state.used;
  return html`
    <div class="limit">
      <h3>${limitText(limit)}</h3>
      <p class="used"><b>${count(used)}</b> ${isCostLimit(limit) ? "used" : "concurrent"}, <b>${count(Math.max(0, limit.max - used))}</b> left</p>
      ${bar(used, limit)}
      ${windowView(counter, limit, cost, nowMs)}
    </div>
  `;
}

/** How much of a limit is used. Only a full bar looks full, and only an empty one empty. */
function bar(used: number, limit: Limit): TemplateResult {
  const isFull = used >= limit.max;
  const percent = isFull ? 100 : used === 0 ? 0 : Math.min(97, Math.max(1, (100 * used) / limit.max));
  return html`
    <svg class="usage" width="100%" height="8" role="meter" aria-valuemin="0" aria-valuemax=${limit.max}
      aria-valuenow=${Math.min(used, limit.max)} aria-label="Used of ${limitText(limit)}">
      <rect class="rail" width="100%" height="8" rx="4" />
      <rect class=${isFull ? "fill full" : "fill"} width="${percent.toFixed(1)}%" height="8" rx="4" />
    </svg>
  `;
}

/** Says what the bars and marks of all limits mean. */
export function legend(): TemplateResult {
  return html`
    <p class="legend">
      <span><i class="swatch event"></i>an event that counts, as high as its cost; it moves left, and leaves the window there</span>
      <span><i class="swatch event first"></i>must leave before the cost fits</span>
      <span><i class="swatch full"></i>the limit is full</span>
    </p>
  `;
}

function windowView(counter: CounterState, limit: Limit, cost: number, nowMs: number): TemplateResult {
  const wait = waitOf(counter, limit, cost, nowMs);
  const fitsAtMs = wait.kind === "in" && wait.ms > 0 ? nowMs + wait.ms : undefined;
  return timeline(eventsOf(counter, limit), limit, nowMs, fitsAtMs);
}

function usedOf(counter: CounterState, limit: Limit, nowMs: number): number {
  const inside = inWindow(eventsOf(counter, limit), limit.windowMs, nowMs);
  return inside.reduce((sum, event) => sum + weightOf(event, limit), 0);
}

export function waitView(wait: Wait, cost: number, nowMs: number): TemplateResult {
  const what = `A cost of ${count(cost)}`;
  if (wait.kind === "never") return html`<p class="fits no">${what} never fits. It is above the limit.</p>`;
  if (wait.kind === "unknown")
    return html`<p class="fits no">The page can't tell when ${what.toLowerCase()} fits: it depends on older events, which are not listed.</p>`;
  if (wait.ms === 0) return html`<p class="fits yes">${what} fits now.</p>`;
  const at = exactText(nowMs + wait.ms, nowMs);
  const sooner = wait.orSooner ? ", or sooner if a concurrent decision is released" : "";
  return html`<p class="fits no">${what} fits at <b>${at}</b>, in ${waitText(wait.ms)}${sooner}.</p>`;
}

/** A table of events, with the instants at which each leaves the windows. */
export function eventTable(counter: CounterState, cut: Cut, nowMs: number): TemplateResult {
  const limits = counter.limits.map(limitOf);
  return html`
    <table class="events stacked">
      <thead><tr>
        <th>Admitted</th><th class="number">Cost</th>
        ${limits.map((limit) => html`<th class="number">${leavingText(limit)}</th>`)}
      </tr></thead>
      <tbody>${cut.shown(counter.events).map((event) => eventRow(event, limits, nowMs))}</tbody>
    </table>
    ${cut.button(counter.events, "events")}
    ${
      cut.isWhole && counter.events.length < counter.events_total
        ? html`<p class="note">The service lists the newest ${plural(counter.events.length, "event")} of ${count(counter.events_total)}.</p>`
        : nothing
    }
  `;
}

function leavingText(limit: Limit): string {
  return isCostLimit(limit) ? `leaves the ${windowText(limit.windowMs)}` : "frees its place";
}

function eventRow(event: StoredEvent, limits: readonly Limit[], nowMs: number): TemplateResult {
  const { id, at, cost } = event;
  return html`
    <tr>
      <td><time datetime=${at}>${exactText(Date.parse(at), nowMs)}</time><br /><small class="id">${id}</small></td>
      <td class="number" data-label="cost">${count(cost)}</td>
      ${limits.map((limit) => html`<td class="number" data-label=${leavingText(limit)}>${leaves(event, limit, nowMs)}</td>`)}
    </tr>
  `;
}

function leaves({ at, cost, released }: StoredEvent, limit: Limit, nowMs: number): string {
  if (!isCostLimit(limit) && released) return "released";
  const leavesAtMs = Date.parse(at) + limit.windowMs;
  return (isCostLimit(limit) && cost === 0) || leavesAtMs <= nowMs ? "–" : instantText(leavesAtMs, nowMs);
}
