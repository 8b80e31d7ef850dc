import type { Redis } from "ioredis";
import { RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import type { Decide, Standing } from "./server";
import { decideEach } from "./store";

function standingOf(result: RateLimiterRes | null, isDenied: boolean): Standing {
  return { used: result?.consumedPoints ?? 0, waitMs: isDenied ? Math.max(1, result?.msBeforeNext ?? 1) : 0 };
}

/** rate-limiter-flexible by its README: a limiter for each limit, with fixed windows. Each limit is charged by itself. */
export function decideFlexibly(redis: Redis): Decide {
  return decideEach(
    ({ max, windowMs }, name) =>
      new RateLimiterRedis({ storeClient: redis, keyPrefix: name, points: max, duration: windowMs / 1_000 }),
    async (limiter, { key, max }, op) => {
      if (op === "check") {
        const result = await limiter.get(key);
        return standingOf(result, (result?.consumedPoints ?? 0) >= max);
      }
      try {
        return standingOf(await limiter.consume(key), false);
      } catch (denied) {
        // The limiter rejects with a result if it denies, and with an error if the store failed.
        if (denied instanceof RateLimiterRes) return standingOf(denied, true);
        throw denied;
      }
    },
  );
}
