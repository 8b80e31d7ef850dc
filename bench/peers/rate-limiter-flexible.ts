import { Redis } from "ioredis";
import { RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { type AskedLimit, type Standing, serve } from "./server";

/** rate-limiter-flexible as its README has it: a limiter a limit, fixed windows, each charged by itself. */
const redis = new Redis(Number(process.env.REDIS_PORT), { enableAutoPipelining: true });
const limiters = new Map<string, RateLimiterRedis>();

function limiterOf({ layer, max, windowMs }: AskedLimit): RateLimiterRedis {
  const name = `${layer}/${windowMs}/${max}`;
  const limiter =
    limiters.get(name) ??
    new RateLimiterRedis({ storeClient: redis, keyPrefix: name, points: max, duration: windowMs / 1_000 });
  limiters.set(name, limiter);
  return limiter;
}

function standingOf(result: RateLimiterRes | null, isDenied: boolean): Standing {
  return { used: result?.consumedPoints ?? 0, waitMs: isDenied ? Math.max(1, result?.msBeforeNext ?? 1) : 0 };
}

serve({
  decide: (op, asked) =>
    Promise.all(
      asked.map(async (limit) => {
        const limiter = limiterOf(limit);
        if (op === "check") {
          const result = await limiter.get(limit.key);
          return standingOf(result, (result?.consumedPoints ?? 0) >= limit.max);
        }
        try {
          return standingOf(await limiter.consume(limit.key), false);
        } catch (denied) {
          // It rejects with a result when it denies, with an error when the store failed.
          if (denied instanceof RateLimiterRes) return standingOf(denied, true);
          throw denied;
        }
      }),
    ),
});
