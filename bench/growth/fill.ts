import type { ServiceProcess } from "../../tools/service-process";
import { load } from "../load";
import { showProgress } from "../measure";

/** Limits that nobody reaches, over a window that nothing leaves in a run, of one layer. */
export const GROWTH_VARIABLES = {
  RATE_LIMIT_POLICIES: JSON.stringify({
    growth: { layers: [{ name: "user", by: ["user"], limits: ["1000000/day"] }] },
  }),
};

const CONNECTIONS = 32;
const PER_BATCH = 100;
/** Between two lines of progress. */
const PART = 50_000;

export const decisionOf = (user: string) => ({ policy: "growth", subject: { user } });

/** Consumes `count` times, `user(i)` each time, in batches where the service has them. */
export async function fill(service: ServiceProcess, count: number, user: (i: number) => string): Promise<void> {
  const hasBatches = (await service.fetch("/v1/batch", { method: "POST" })).status !== 404;
  const size = hasBatches && count % PER_BATCH === 0 ? PER_BATCH : 1;
  const url = `${service.url}${size > 1 ? "/v1/batch" : "/v1/consume"}`;
  for (let done = 0; done < count; done += PART) {
    showProgress(`filling: ${done.toLocaleString("en")} of ${count.toLocaleString("en")} events`);
    const batch = (at: number) => ({
      requests: Array.from({ length: size }, (_, i) => ({ op: "consume", ...decisionOf(user(at + i)) })),
    });
    const bodies = (i: number) => (size > 1 ? batch(done + i * size) : decisionOf(user(done + i)));
    const amount = Math.min(PART, count - done) / size;
    const { byStatus } = await load({ url, connections: Math.min(CONNECTIONS, amount), amount, bodies });
    if (byStatus["200"] !== amount) throw new Error(`Filling was answered ${JSON.stringify(byStatus)}`);
  }
  showProgress("");
}
