import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

export const MONITORING = resolve(import.meta.dirname, "../monitoring");

interface Dashboard {
  readonly templating: { readonly list: readonly { readonly query: string | { readonly query: string } }[] };
  readonly panels: readonly {
    readonly title: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly targets: readonly { readonly expr: string }[];
  }[];
}

/** The dashboard for Grafana. */
export function readDashboard(): Dashboard {
  return JSON.parse(readFileSync(join(MONITORING, "grafana/limiter.json"), "utf8"));
}

/** The queries of the dashboard, with values in place of Grafana's variables, so that Prometheus can read them. */
export function dashboardQueries(): string[] {
  return readDashboard().panels.flatMap(({ targets }) =>
    targets.map(({ expr }) => expr.replaceAll("$__rate_interval", "5m").replaceAll("$policy", ".*")),
  );
}
