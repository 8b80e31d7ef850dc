import { Redis } from "ioredis";
import { RateLimiterRedis, RateLimiterRes, RateLimiterUnion } from "rate-limiter-flexible";
import { FLEXIBLE } from "../../names";
import { CONTAINERS, type Limit } from "../traces";
import { keyOf, longestOf, type Peer } from "./peer";

/** As its documentation has it: the limits of a key are a union, which consumes of all of them at once. */
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
    cannot: "one key after the other; no idempotency key",
    windowsSeen: 1,
    async decide(request) {
      const unions = containers[request.container] as RateLimiterUnion[];
      for (const [i, [first]] of layers.entries())
        try {
          await unions[i]?.consume(keyOf(first as Limit, request), request.cost);
        } catch (denied) {
          const results = Object.values(denied as Record<string, unknown>);
          // It rejects with the results of those that deny, and with an error in their place when the store failed.
          const told = results.map((result) => {
            if (!(result instanceof RateLimiterRes)) throw result;
            return { from: "decision", ms: result.msBeforeNext, roundedUpToMs: 1 } as const;
          });
          return { allowed: false, told: longestOf(told) };
        }
      return { allowed: true };
    },
  };
}
