import { join } from "node:path";
import { type Resources, resourcesOf } from "../../tools/resources";
import { startLimiter } from "../contestants";
import { load, median } from "../load";
import { type Extent, showProgress } from "../measure";
import { decisionOf, fill, GROWTH_VARIABLES } from "./fill";

export interface AtKeys extends Resources {
  readonly keys: number;
  readonly perSecond: number;
}

const COUNTS = [10, 1_000, 100_000, 1_000_000];
const CONNECTIONS = 32;

/**
 * Measures admitted decisions about random keys by the number of stored keys. Each count has a service of its own in the
 * layout of `npm start`, where all keys share an object. The services are measured in turn.
 */
export async function growKeys(folder: string, { rounds, seconds }: Extent): Promise<AtKeys[]> {
  const grown = [];
  for (const count of COUNTS) {
    const service = await startLimiter(join(folder, String(count)), GROWTH_VARIABLES);
    await fill(service, count, (i) => `u_${i}`);
    grown.push({ count, service, perSecond: [] as number[], resources: [] as Resources[] });
  }
  for (let round = 0; round <= rounds; round++)
    for (const { count, service, perSecond, resources } of grown) {
      showProgress(`${count.toLocaleString("en")} keys: round ${round} of ${rounds}`);
      const bodies = () => decisionOf(`u_${Math.floor(Math.random() * count)}`);
      const url = `${service.url}/v1/consume`;
      const result = await load({ url, connections: CONNECTIONS, seconds, bodies });
      resources.push(resourcesOf(service));
      // The first round warms up.
      if (round > 0) perSecond.push(result.requestsPerSecond);
    }
  await Promise.all(grown.map(({ service }) => service.stop()));
  showProgress("");
  return grown.map(({ count, perSecond, resources }) => ({
    keys: count,
    perSecond: median(perSecond),
    residentBytes: Math.max(...resources.map((each) => each.residentBytes)),
    openFiles: Math.max(...resources.map((each) => each.openFiles)),
  }));
}
