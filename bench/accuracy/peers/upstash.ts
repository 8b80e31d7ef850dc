import { Ratelimit } from "@upstash/ratelimit";
import { Redis } from "ioredis";
import { UPSTASH } from "../../names";
import { upstashClient } from "../../peers/upstash-client";
import { CONTAINERS, costUnder, keyOf, type Limit } from "../traces";
import type { Peer } from "./peer";

/** @upstash/ratelimit by its documentation, with a limiter for each limit and its cache of denials, on a local Redis. */
export function startUpstash(redisPort: number, limits: readonly Limit[]): Peer {
  const containers = Array.from({ length: CONTAINERS }, () => {
    const redis = upstashClient(new Redis(redisPort));
    return limits.map(({ layer, max, windowMs }) => {
      const limiter = Ratelimit.slidingWindow(max, `${windowMs} ms`);
      return new Ratelimit({ redis, prefix: `upstash/${layer}/${windowMs}`, limiter, timeout: 0 });
    });
  });
  return {
    name: `${UPSTASH}, slidingWindow`,
    limits,
    shortcomings: "one limit after the other; no idempotency key",
    windowsSeen: 2,
    async decide(request) {
      for (const [i, limiter] of (containers[request.container] as Ratelimit[]).entries()) {
        const limit = limits[i] as Limit;
        const rate = costUnder(limit, request);
        if (rate === 0) continue;
        const { success, reset } = await limiter.limit(keyOf(limit, request), { rate });
        if (!success) return { allowed: false, reportedWait: { from: "epoch", ms: reset, roundedUpToMs: 1 } };
      }
      return { allowed: true };
    },
  };
}
