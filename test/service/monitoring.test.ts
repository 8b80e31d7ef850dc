import { readFileSync } from "node:fs";
import { join } from "node:path";
import parse from "parse-prometheus-text-format";
import { expect, test } from "vitest";
import { dashboardQueries, MONITORING, readDashboard } from "../../tools/monitoring";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";

/** The queries of the alerts, one on each line or indented below its name. */
function alertQueries(): string[] {
  const rules = readFileSync(join(MONITORING, "rules.yml"), "utf8");
  return [...rules.matchAll(/expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)/g)].map(([, block, line]) => block ?? line ?? "");
}

/** What a query asks for: the names of metrics without the suffixes of histograms, and values by label. */
function askedIn(query: string) {
  const names = [...query.matchAll(/\blimiter_\w+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ""));
  const matchers = [...query.matchAll(/(\w+)=(~?)"([^"]*)"/g)].map(([, label = "", isPattern, value = ""]) => ({
    label,
    pattern: isPattern ? new RegExp(`^(${value})$`) : new RegExp(`^${value}$`),
  }));
  const grouped = [...query.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, labels = ""]) => labels.split(", "));
  return { names: [...new Set(names)], matchers, grouped };
}

/** The metrics of a service that has decided: for each name the values of each label. */
async function realMetrics(): Promise<Map<string, Map<string, Set<string>>>> {
  const service = await ServiceProcess.start(variables());
  const caller = new Caller(targetOf(service));
  await caller.consume("chat", newSubject());
  const families = parse(await (await caller.admin("/metrics")).text());
  await service.stop();
  return new Map(
    families.map(({ name, metrics }) => {
      const labels = new Map<string, Set<string>>();
      for (const metric of metrics) {
        const buckets = Object.keys(metric.buckets ?? {}).map((le) => ["le", le] as const);
        for (const [label, value] of [...Object.entries(metric.labels ?? {}), ...buckets])
          labels.set(label, (labels.get(label) ?? new Set()).add(value));
      }
      return [name, labels];
    }),
  );
}

test("the dashboard and the alerts ask for metrics, labels and values that the service has, and show all of its metrics", async () => {
  const real = await realMetrics();
  const queries = [...dashboardQueries(), ...alertQueries()];
  expect(alertQueries().length).toBe(6);
  const unknown: string[] = [];
  for (const query of queries) {
    const { names, matchers, grouped } = askedIn(query);
    const missing = names.filter((name) => !real.has(name));
    unknown.push(...missing);
    // One metric a query, but for what is compared with all of it.
    const labels = names.map((name) => real.get(name)).find((labels) => labels !== undefined);
    if (!labels) continue;
    unknown.push(...grouped.filter((label) => !labels.has(label)).map((label) => `${label} in ${query}`));
    for (const { label, pattern } of matchers.filter(({ label }) => label !== "job"))
      if (![...(labels.get(label) ?? [])].some((value) => pattern.test(value))) unknown.push(`${label} in ${query}`);
  }
  expect(unknown).toEqual([]);
  const shown = dashboardQueries().flatMap((query) => askedIn(query).names);
  expect([...real.keys()].filter((name) => !shown.includes(name))).toEqual([]);
});

test("the dashboard's variable asks for a metric and a label that the panels use", () => {
  const [query] = readDashboard().templating.list.flatMap(({ query }) =>
    typeof query === "string" ? [] : [query.query],
  );
  expect(query).toBe("label_values(limiter_decisions_total, policy)");
});

test("the dashboard's panels have titles of their own, and none lies on another", () => {
  const { panels } = readDashboard();
  expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) => {
    expect(x + w).toBeLessThanOrEqual(24);
    return Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`);
  });
  expect(new Set(cells).size).toBe(cells.length);
});

test("Grafana is provisioned with the dashboard by the file that there is, and Prometheus with the alerts", () => {
  const read = (path: string) => readFileSync(join(MONITORING, path), "utf8");
  expect(read("grafana/provisioning/dashboards/limiter.yml")).toContain("/limiter.json");
  expect(read("prometheus.yml")).toContain("rule_files: [rules.yml]");
});
