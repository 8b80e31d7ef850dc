import { html, nothing, svg, type TemplateResult } from "lit-html";
import type { Limit } from "../src/core/limit";
import { type CountedEvent, inWindow, weightOf } from "./counters";
import { exactText, plural, waitText, windowText } from "./format";

/**
 * The window of a limit, from its start on the left to now on the right. Events move to the left and leave there. The
 * height of a mark shows how much the event takes of the limit.
 */
export function timeline(
  events: readonly CountedEvent[],
  limit: Limit,
  nowMs: number,
  /** When the cost fits, if it does not fit now. Events that leave until then are highlighted, above the others. */
  fitsAtMs: number | undefined,
): TemplateResult {
  const { windowMs } = limit;
  const inside = inWindow(events, windowMs, nowMs);
  const percent = (atMs: number) => `${(100 * (1 - (nowMs - atMs) / windowMs)).toFixed(3)}%`;
  const largest = Math.max(1, ...inside.map((event) => weightOf(event, limit)));
  const isInTheWay = ({ atMs }: CountedEvent) => fitsAtMs !== undefined && atMs + windowMs <= fitsAtMs;
  const mark = (event: CountedEvent) => {
    const { atMs, cost } = event;
    const height = 8 + (16 * weightOf(event, limit)) / largest;
    const leavesAtMs = atMs + windowMs;
    const words = `${exactText(atMs, nowMs)}, cost ${cost}, leaves at ${exactText(leavesAtMs, nowMs)}`;
    return svg`<rect class=${isInTheWay(event) ? "event first" : "event"} x=${percent(Math.min(atMs, nowMs))} y=${28 - height} width="3" height=${height} rx="1"><title>${words}</title></rect>`;
  };
  return html`
    <svg class="timeline" width="100%" height="32" role="img" aria-label=${descriptionOf(inside, windowMs, nowMs)}>
      <rect class="track" x="0" y="28" width="100%" height="2" />
      ${[...inside].sort((a, b) => Number(isInTheWay(a)) - Number(isInTheWay(b))).map(mark)}
    </svg>
    <div class="ends" aria-hidden="true">
      <span>${windowText(windowMs).replace(/^\D/, (letter) => `1 ${letter}`)} ago</span>
      <span>${inside.length > 0 ? `the next leaves in ${waitText((inside[0]?.atMs ?? nowMs) + windowMs - nowMs)}` : nothing}</span>
      <span>now</span>
    </div>
  `;
}

function descriptionOf(inside: readonly CountedEvent[], windowMs: number, nowMs: number): string {
  const [first] = inside;
  if (first === undefined) return `No events in the last ${windowText(windowMs)}.`;
  const next = waitText(first.atMs + windowMs - nowMs);
  return `${plural(inside.length, "event")} in the last ${windowText(windowMs)}; the next leaves in ${next}.`;
}
