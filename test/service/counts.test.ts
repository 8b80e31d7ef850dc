import parse from "parse-prometheus-text-format";
import { expect, test } from "vitest";
import { ServiceProcess } from "../../tools/service-process";
import { Caller, newSubject } from "../behaviour/target";
import { targetOf, variables } from "./service";
import { RawSession } from "./session";

const boundOf = (le: string) => (le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le));

/** The metrics as a scraper reads them: the value of each sample by its labels. */
async function scrape(caller: Caller) {
  const response = await caller.admin("/metrics");
  expect(response.headers.get("Content-Type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const families = parse(await response.text());
  const read = (name: string, labels: Record<string, string>) =>
    Number(
      families
        .find((family) => family.name === name)
        ?.metrics.find((metric) => Object.entries(labels).every(([label, value]) => metric.labels?.[label] === value))
        ?.value,
    );
  return { families, read };
}

test("metrics have every decision, layer and call, with zeros for what was never counted", async () => {
  const shared = variables();
  const service = await ServiceProcess.start(shared);
  const caller = new Caller(targetOf(service));
  const subject = newSubject();
  await caller.consume("chat", subject, 4);
  for (let i = 0; i < 3; i++) await caller.consume("chat", subject, 2);

  const { families, read } = await scrape(caller);
  expect(families.map(({ name, type }) => [name, type])).toEqual([
    ["limiter_decisions_total", "COUNTER"],
    ["limiter_layer_denials_total", "COUNTER"],
    ["limiter_requests_total", "COUNTER"],
    ["limiter_failed_sign_ins_total", "COUNTER"],
    ["limiter_object_call_duration_seconds", "HISTOGRAM"],
    ["limiter_counting_since_timestamp_seconds", "GAUGE"],
    ["limiter_limit", "GAUGE"],
  ]);
  const decisions = (policy: string, outcome: string) => read("limiter_decisions_total", { policy, outcome });
  expect(decisions("chat", "allowed")).toBe(1);
  expect(decisions("chat", "denied") + decisions("chat", "denied_at_edge")).toBe(3);
  expect([decisions("chat", "shadow_denied"), decisions("burst", "allowed")]).toEqual([0, 0]);
  const layer = { policy: "chat", layer: "caller" };
  expect(read("limiter_layer_denials_total", { ...layer, outcome: "denied" })).toBe(decisions("chat", "denied"));
  expect(read("limiter_layer_denials_total", { policy: "chat", layer: "ip", outcome: "denied" })).toBe(0);
  expect(read("limiter_limit", { ...layer, window_seconds: "3600" })).toBe(60);
  const jobs = { policy: "jobs", layer: "caller", window_seconds: "300" };
  expect(["cost", "concurrent"].map((kind) => read("limiter_limit", { ...jobs, kind }))).toEqual([10, 2]);
  for (const { name, metrics } of families) {
    const series = metrics.map(({ labels }) => JSON.stringify(labels));
    expect([name, new Set(series).size]).toEqual([name, series.length]);
  }
  const [calls] = families.find(({ type }) => type === "HISTOGRAM")?.metrics ?? [];
  expect(Number(calls?.count)).toBe(1 + decisions("chat", "denied"));
  expect(calls?.buckets?.["+Inf"]).toBe(calls?.count);
  const buckets = Object.entries(calls?.buckets ?? {}).sort(([a], [b]) => boundOf(a) - boundOf(b));
  const counts = buckets.map(([, count]) => Number(count));
  expect(counts).toEqual([...counts].sort((a, b) => a - b));

  await service.stop();
  const again = await ServiceProcess.start(shared);
  const { read: readAgain } = await scrape(new Caller(targetOf(again)));
  expect(readAgain("limiter_decisions_total", { policy: "chat", outcome: "allowed" })).toBeGreaterThanOrEqual(1);
  await again.stop();
});

test("with RATE_LIMIT_LOG_DENIALS=1 every denial is logged as a line of JSON without the key", async () => {
  const service = await ServiceProcess.start(variables({ RATE_LIMIT_LOG_DENIALS: "1" }));
  const caller = new Caller(targetOf(service));
  const subject = newSubject();
  for (let i = 0; i < 3; i++) await caller.consume("chat", subject, 4);
  await service.stop();
  const lines = service.output.split("\n").filter((line) => line.startsWith("{"));
  expect(lines.map((line) => (JSON.parse(line) as { message: string }).message)).toEqual(["denied", "denied"]);
  expect(service.output).not.toContain(subject.user);
});

test("the counts of sessions are written before the service ends, as those of HTTP are", async () => {
  const shared = variables();
  const service = await ServiceProcess.start(shared);
  const session = await RawSession.open(service.url, { Authorization: "Bearer caller-token" });
  const request = { op: "consume", policy: "chat", subject: newSubject() };
  for (let i = 0; i < 3; i++) await session.ask({ requests: [request] });
  await service.stop();
  const again = await ServiceProcess.start(shared);
  const { read } = await scrape(new Caller(targetOf(again)));
  expect(read("limiter_decisions_total", { policy: "chat", outcome: "allowed" })).toBe(3);
  await again.stop();
});
