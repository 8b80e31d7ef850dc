import { Ratelimit } from "@upstash/ratelimit";
import { serve } from "./server";
import { connectRedis, decideEach } from "./store";
import { upstashClient } from "./upstash-client";

/**
 * The algorithm of `@upstash/ratelimit`: its own scripts on the Redis of the other peers. Upstash's REST would measure the
 * network. As with its own client, denials stay in a cache until the window ends.
 */
const redis = upstashClient(connectRedis());

const waitMs = (reset: number) => Math.max(1, reset - Date.now());

serve({
  decide: decideEach(
    ({ max, windowMs }, name) =>
      new Ratelimit({ redis, prefix: name, limiter: Ratelimit.slidingWindow(max, `${windowMs} ms`), timeout: 0 }),
    async (limiter, { key, max }, op) => {
      if (op === "check") {
        const { remaining, reset } = await limiter.getRemaining(key);
        return { used: max - remaining, waitMs: remaining > 0 ? 0 : waitMs(reset) };
      }
      const { success, remaining, reset } = await limiter.limit(key);
      return { used: max - remaining, waitMs: success ? 0 : waitMs(reset) };
    },
  ),
});
