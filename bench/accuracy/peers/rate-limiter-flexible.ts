import { Redis } from "ioredis";
import { RateLimiterRedis, RateLimiterRes, RateLimiterUnion } from "rate-limiter-flexible";
import { FLEXIBLE } from "../../names";
import { CONTAINERS, costUnder, keyOf, type Limit } from "../traces";
import { longestOf, type Peer } from "./peer";

/** rate-limiter-flexible by its documentation: a union of the limits of a key consumes from all of them at once. */
export function startFlexible(redisPort: number, limits: readonly Limit[]): Peer {
  const layers = [...new Set(limits.map(({ layer }) => layer))].map((layer) =>
    limits.filter((limit) => limit.layer === layer),
  );
  const containers = Array.from({ length: CONTAINERS }, () => {
    const storeClient = new Redis(redisPort);
    const limiterOf = ({ layer, max, windowMs }: Limit) =>
      new RateLimiterRedis({ storeClient, keyPrefix: `${layer}/${windowMs}`, points: max, duration: windowMs / 1_000 });
    return layers.map((layer) => new RateLimiterUnion(...layer.map(limiterOf)));
  });
  return {
    name: FLEXIBLE,
    limits,
    shortcomings: "one key after the other; no idempotency key",
    windowsSeen: 1,
    async decide(request) {
      const unions = containers[request.container] as RateLimiterUnion[];
      for (const [i, [first]] of layers.entries())
        try {
          const limit = first as Limit;
          const cost = costUnder(limit, request);
          if (cost > 0) await unions[i]?.consume(keyOf(limit, request), cost);
        } catch (denied) {
          const results = Object.values(denied as Record<string, unknown>);
          // The union rejects with the results of the limits that deny, or with an error if the store failed.
          const reportedWait = results.map((result) => {
            if (!(result instanceof RateLimiterRes)) throw result;
            return { from: "decision", ms: result.msBeforeNext, roundedUpToMs: 1 } as const;
          });
          return { allowed: false, reportedWait: longestOf(reportedWait) };
        }
      return { allowed: true };
    },
  };
}
