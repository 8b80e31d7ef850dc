import { Ratelimit } from "@upstash/ratelimit";
import { Redis } from "ioredis";
import { type AskedLimit, serve } from "./server";
import { upstashClient } from "./upstash-client";

/**
 * The algorithm of `@upstash/ratelimit`: its own scripts, on the same Redis as the others in place of Upstash's REST,
 * which would be measured by its network. Like its own client it keeps who was denied in memory until the window ends.
 */
const redis = new Redis(Number(process.env.REDIS_PORT), { enableAutoPipelining: true });

const client = upstashClient(redis);
const limiters = new Map<string, Ratelimit>();

function limiterOf({ layer, max, windowMs }: AskedLimit): Ratelimit {
  const name = `${layer}/${windowMs}/${max}`;
  const limiter =
    limiters.get(name) ??
    new Ratelimit({ redis: client, prefix: name, limiter: Ratelimit.slidingWindow(max, `${windowMs} ms`), timeout: 0 });
  limiters.set(name, limiter);
  return limiter;
}

serve({
  decide: (op, asked) =>
    Promise.all(
      asked.map(async (limit) => {
        const limiter = limiterOf(limit);
        if (op === "check") {
          const { remaining, reset } = await limiter.getRemaining(limit.key);
          return { used: limit.max - remaining, waitMs: remaining > 0 ? 0 : Math.max(1, reset - Date.now()) };
        }
        const { success, remaining, reset } = await limiter.limit(limit.key);
        return { used: limit.max - remaining, waitMs: success ? 0 : Math.max(1, reset - Date.now()) };
      }),
    ),
});
