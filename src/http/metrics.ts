import type { Policy } from "../core/policy";
import { LATENCY_BOUNDS_MS, type Latencies } from "../counting/latencies";
import { noSignIns, type SignIns } from "../counting/sign-ins";
import { LAYER_OUTCOMES, OUTCOMES, type Tallies } from "../counting/tally";
import type { Service } from "../service";
import { type Metric, PROMETHEUS_TYPE, prometheusText, type Sample } from "./prometheus";
import { countsOf } from "./stats";

/** The totals since counting began, for Prometheus. @throws Problem, Refusal `unreachable` */
export async function metrics({ config, counts }: Pick<Service, "config" | "counts">): Promise<Response> {
  const { sinceMs, tallies, latencies, signIns = noSignIns() } = await countsOf(counts).totals();
  const policies = [...config.policies.values()];
  const text = prometheusText([
    {
      name: "limiter_decisions_total",
      help: "Consumes by outcome. Each is counted once.",
      type: "counter",
      samples: decisionSamples(policies, tallies),
    },
    {
      name: "limiter_layer_denials_total",
      help: "How often a layer was a reason for a denial.",
      type: "counter",
      samples: layerSamples(policies, tallies),
    },
    ...signInMetrics(signIns),
    {
      name: "limiter_object_call_duration_seconds",
      help: "Duration of calls to the objects that hold counters. Each try counts.",
      type: "histogram",
      samples: histogramSamples(latencies),
    },
    {
      name: "limiter_counting_since_timestamp_seconds",
      help: "When counting began.",
      type: "gauge",
      samples: [{ value: sinceMs / 1_000 }],
    },
    {
      name: "limiter_limit",
      help: "The limits in force: the most cost, or the most concurrent decisions, in any window.",
      type: "gauge",
      samples: policies.flatMap(limitSamples),
    },
  ]);
  return new Response(text, { headers: { "Content-Type": PROMETHEUS_TYPE, "Cache-Control": "no-store" } });
}

function signInMetrics({ requests, failed }: SignIns): Metric[] {
  return [
    {
      name: "limiter_requests_total",
      help: "Requests by the name of their token.",
      type: "counter",
      samples: [...requests].map(([token, value]) => ({ labels: { token }, value })),
    },
    {
      name: "limiter_failed_sign_ins_total",
      help: "Requests without a valid token.",
      type: "counter",
      samples: [{ value: failed }],
    },
  ];
}

/** Emit every series, zeros included, so that `rate()` sees the first increment. */
function decisionSamples(policies: readonly Policy[], tallies: Tallies): Sample[] {
  const counted = [...tallies.keys()].filter((name) => !name.includes("/"));
  return [...new Set([...policies.map(({ name }) => name), ...counted])].flatMap((policy) =>
    OUTCOMES.map((outcome) => ({ labels: { policy, outcome }, value: tallies.get(policy)?.[outcome] ?? 0 })),
  );
}

function layerSamples(policies: readonly Policy[], tallies: Tallies): Sample[] {
  const inForce = policies.flatMap((policy) => policy.layers.map((layer) => `${policy.name}/${layer.name}`));
  const counted = [...tallies.keys()].filter((name) => name.includes("/"));
  return [...new Set([...inForce, ...counted])].flatMap((name) => {
    const [policy = "", layer = ""] = name.split("/");
    return LAYER_OUTCOMES.map((outcome) => ({
      labels: { policy, layer, outcome },
      value: tallies.get(name)?.[outcome] ?? 0,
    }));
  });
}

/** Buckets are cumulative: each includes those before it. */
function histogramSamples({ counts, sumMs }: Latencies): Sample[] {
  const bounds = [...LATENCY_BOUNDS_MS.map((ms) => String(ms / 1_000)), "+Inf"];
  let count = 0;
  const buckets = bounds.map((le, i) => {
    count += counts[i] ?? 0;
    return { suffix: "_bucket", labels: { le }, value: count };
  });
  return [...buckets, { suffix: "_sum", value: sumMs / 1_000 }, { suffix: "_count", value: count }];
}

function limitSamples({ name: policy, layers }: Policy): Sample[] {
  return layers.flatMap(({ name: layer, limits }) =>
    limits.map(({ kind = "cost", max, windowMs }) => ({
      labels: { policy, layer, window_seconds: String(windowMs / 1_000), kind },
      value: max,
    })),
  );
}
