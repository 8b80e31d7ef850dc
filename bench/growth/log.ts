import type { ServiceProcess } from "../../tools/service-process";
import { startLimiter } from "../contestants";
import { load, median } from "../load";
import { type Extent, showProgress } from "../measure";
import { decisionOf, fill, GROWTH_VARIABLES } from "./fill";

export interface AtEvents {
  readonly events: number;
  /** The median time of decisions that are sent one after the other. */
  readonly consumeMs: number;
  readonly checksPerSecond: number;
  /** The time of the first decision of a key that is not in memory, in a service that is warm otherwise. */
  readonly coldMs: number;
}

const COUNTS = [10, 1_000, 100_000];
/** Decisions in a round. A key gets at most as many as it has events. */
const DECISIONS = 100;
const CONNECTIONS = 32;

/** The keys with so many events each. There are enough of them that measuring hardly makes their logs longer. */
function keysOf(events: number): string[] {
  return Array.from({ length: Math.ceil(DECISIONS / events) }, (_, i) => `${events}_${i}`);
}

/** Measures decisions by the number of events in the log: warm, and the first after an eviction. */
export async function growLog(dataDirectory: string, { rounds, seconds }: Extent): Promise<AtEvents[]> {
  let service = await startLimiter(dataDirectory, GROWTH_VARIABLES);
  for (const events of COUNTS) {
    const keys = keysOf(events);
    await fill(service, events * keys.length, (i) => keys[i % keys.length] as string);
  }
  const samples = COUNTS.map((events) => ({
    events,
    consume: [] as number[],
    check: [] as number[],
    cold: [] as number[],
  }));
  for (let round = 0; round <= rounds; round++)
    for (const { events, consume, check } of samples) {
      showProgress(`${events.toLocaleString("en")} events in the log: round ${round} of ${rounds}`);
      const bodies = keysOf(events).map(decisionOf);
      const consumed = await load({ url: `${service.url}/v1/consume`, connections: 1, amount: DECISIONS, bodies });
      const checked = await load({ url: `${service.url}/v1/check`, connections: CONNECTIONS, seconds, bodies });
      // The first round warms up.
      if (round === 0) continue;
      consume.push(consumed.p50Ms);
      check.push(checked.requestsPerSecond);
    }
  for (let round = 1; round <= rounds; round++) {
    await service.stop();
    service = await startLimiter(dataDirectory, GROWTH_VARIABLES);
    await fill(service, 100, () => "another");
    for (const { events, cold } of samples) {
      showProgress(`${events.toLocaleString("en")} events, after an eviction: round ${round} of ${rounds}`);
      cold.push(await firstDecisionMs(service, keysOf(events)[0] as string));
    }
  }
  await service.stop();
  showProgress("");
  return samples.map(({ events, consume, check, cold }) => ({
    events,
    consumeMs: median(consume),
    checksPerSecond: median(check),
    coldMs: median(cold),
  }));
}

async function firstDecisionMs(service: ServiceProcess, key: string): Promise<number> {
  const url = `${service.url}/v1/consume`;
  return (await load({ url, connections: 1, amount: 1, bodies: [decisionOf(key)] })).p50Ms;
}
