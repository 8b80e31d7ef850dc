import type { ServiceProcess } from "../../tools/service-process";
import { load } from "../load";
import { showProgress } from "../measure";

/** One layer with a limit that nobody reaches, over a window that no event leaves during a run. */
export const GROWTH_VARIABLES = {
  RATE_LIMIT_POLICIES: JSON.stringify({
    growth: { layers: [{ name: "user", by: ["user"], limits: ["1000000/day"] }] },
  }),
};

const CONNECTIONS = 32;
const PER_BATCH = 100;
/** Events between two lines of progress. */
const CHUNK = 50_000;

export const decisionOf = (user: string) => ({ policy: "growth", subject: { user } });

/** Consumes `count` times for the users `user(i)`, in batches if the service has them. */
export async function fill(service: ServiceProcess, count: number, user: (i: number) => string): Promise<void> {
  const hasBatches = (await service.fetch("/v1/batch", { method: "POST" })).status !== 404;
  const size = hasBatches && count % PER_BATCH === 0 ? PER_BATCH : 1;
  const url = `${service.url}${size > 1 ? "/v1/batch" : "/v1/consume"}`;
  for (let done = 0; done < count; done += CHUNK) {
    showProgress(`filling: ${done.toLocaleString("en")} of ${count.toLocaleString("en")} events`);
    const batch = (first: number) => ({
      requests: Array.from({ length: size }, (_, i) => ({ op: "consume", ...decisionOf(user(first + i)) })),
    });
    const bodies = (i: number) => (size > 1 ? batch(done + i * size) : decisionOf(user(done + i)));
    const amount = Math.min(CHUNK, count - done) / size;
    const { byStatus } = await load({ url, connections: Math.min(CONNECTIONS, amount), amount, bodies });
    if (byStatus["200"] !== amount) throw new Error(`Filling failed. Answers by status: ${JSON.stringify(byStatus)}`);
  }
  showProgress("");
}
