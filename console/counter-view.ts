import { html, nothing, type TemplateResult } from "lit-html";
import type { Limit } from "../src/core/limit";
import { eventsOf, inWindow, isCostLimit, isWhole, limitOf, type Wait, waitOf } from "./counters";
import { count, exactText, instantText, limitText, plural, waitText, windowText } from "./format";
import { timeline } from "./timeline";
import type { CounterState, LimitState, StoredEvent } from "./wire";

/** One limit of a counter: its standing, and its window. */
export function limitView(counter: CounterState, state: LimitState, cost: number, nowMs: number): TemplateResult {
  const limit = limitOf(state);
  const used = isCostLimit(limit) && isWhole(counter, limit, nowMs) ? usedOf(counter, limit, nowMs) : state.used;
  const left = Math.max(0, limit.max - used);
  return html`
    <div class="limit">
      <h4>${limitText(limit)}</h4>
      <p class="used"><b>${count(used)}</b> ${isCostLimit(limit) ? "used" : "concurrent"}, <b>${count(left)}</b> left</p>
      <meter min="0" max=${limit.max} value=${Math.min(used, limit.max)} aria-label="Used of ${limitText(limit)}"></meter>
      ${isCostLimit(limit) ? windowView(counter, limit, cost, nowMs) : nothing}
    </div>
  `;
}

function windowView(counter: CounterState, limit: Limit, cost: number, nowMs: number): TemplateResult {
  const wait = waitOf(counter, limit, cost, nowMs);
  const fitsAtMs = wait.kind === "in" && wait.ms > 0 ? nowMs + wait.ms : undefined;
  return timeline(eventsOf(counter), limit, nowMs, fitsAtMs);
}

function usedOf(counter: CounterState, { windowMs }: Limit, nowMs: number): number {
  return inWindow(eventsOf(counter), windowMs, nowMs).reduce((sum, { cost }) => sum + cost, 0);
}

export function waitView(wait: Wait, cost: number, nowMs: number): TemplateResult {
  const what = `A cost of ${count(cost)}`;
  if (wait.kind === "never") return html`<p class="fits no">${what} never fits. It is above the limit.</p>`;
  if (wait.kind === "unknown")
    return html`<p class="fits no">The page can't tell when ${what.toLowerCase()} fits: it depends on events or releases not shown here.</p>`;
  if (wait.ms === 0) return html`<p class="fits yes">${what} fits now.</p>`;
  const at = exactText(nowMs + wait.ms, nowMs);
  return html`<p class="fits no">${what} fits at <b>${at}</b>, in ${waitText(wait.ms)}.</p>`;
}

/** A table of events, with the instants at which each leaves the windows. */
export function eventTable(counter: CounterState, nowMs: number): TemplateResult {
  const windows = counter.limits
    .map(limitOf)
    .filter(isCostLimit)
    .map(({ windowMs }) => windowMs);
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Events of ${counter.policy} / ${counter.layer}">
      <table class="events">
        <thead><tr>
          <th>Admitted</th><th class="number">Cost</th>
          ${windows.map((windowMs) => html`<th class="number">leaves the ${windowText(windowMs)}</th>`)}
        </tr></thead>
        <tbody>${counter.events.map((event) => eventRow(event, windows, nowMs))}</tbody>
      </table>
    </div>
    ${
      counter.events.length < counter.events_total
        ? html`<p class="note">Shows the newest ${plural(counter.events.length, "event")} of ${count(counter.events_total)}.</p>`
        : nothing
    }
  `;
}

function eventRow({ id, at, cost }: StoredEvent, windows: readonly number[], nowMs: number): TemplateResult {
  const atMs = Date.parse(at);
  return html`
    <tr>
      <td><time datetime=${at}>${exactText(atMs, nowMs)}</time><br /><small class="id">${id}</small></td>
      <td class="number">${count(cost)}</td>
      ${windows.map((windowMs) => html`<td class="number">${cost === 0 || atMs + windowMs <= nowMs ? "–" : instantText(atMs + windowMs, nowMs)}</td>`)}
    </tr>
  `;
}
