import type { KeyState, OverriddenKey } from "../request/admin-schema";

type Counter = KeyState["counters"][number];

/** What the service knows of a key, in words. */
export function keyLines({ key, override, counters }: KeyState): string[] {
  return [
    ...(override ? [overrideLine({ key, override })] : [`${key} has no override.`]),
    ...(counters.length === 0 ? ["Nothing counts for it: no event is in any window."] : []),
    ...counters.flatMap(counterLines),
  ];
}

const STATE = { ban: "is banned", exempt: "is exempt from limits", limits: "has limits of its own" } as const;

export function overrideLine({ key, override: { kind, reason, expires_at: end, limits = [] } }: OverriddenKey): string {
  const own = limits.map(({ policy, layer, limits }) => `${policy} / ${layer} ${limits.join(", ")}`).join("; ");
  return `${key} ${STATE[kind]}${own && ` (${own})`} until ${end}: ${reason}`;
}

function counterLines({ policy, layer, limits, events, events_total: total }: Counter): string[] {
  return [
    "",
    `${policy} / ${layer}`,
    ...limits.map(limitLine),
    `  ${total} event${total === 1 ? "" : "s"}${events.length < total ? `, the last ${events.length}` : ""}`,
    ...events.map(eventLine),
  ];
}

function limitLine(limit: Counter["limits"][number]): string {
  const { limit: max, concurrent, window_seconds: window, used, remaining, reset_seconds: reset, override } = limit;
  const name = `${max}${concurrent ? " concurrent" : ""} per ${window} s${override ? ` (${override})` : ""}`;
  return `  ${name}: ${used} used, ${remaining} left${reset > 0 ? `, all back in ${reset} s` : ""}`;
}

function eventLine({ at, id, cost, admitted_cost: admitted, released }: Counter["events"][number]): string {
  const settled = admitted === undefined ? "" : `, admitted at ${admitted}`;
  return `    ${at}  cost ${cost}${settled}${released ? ", released" : ""}  ${id}`;
}
