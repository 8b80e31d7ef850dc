import { createHash } from "node:crypto";
import { Ratelimit } from "@upstash/ratelimit";
import { Redis } from "ioredis";
import { type AskedLimit, serve } from "./server";

/**
 * The algorithm of `@upstash/ratelimit`: its own scripts, on the same Redis as the others in place of Upstash's REST,
 * which would be measured by its network. Like its own client it keeps who was denied in memory until the window ends.
 */
const redis = new Redis(Number(process.env.REDIS_PORT), { enableAutoPipelining: true });

/** The digests that the limiter knows its scripts by, and Redis': it refuses the flag of Upstash's own in their first line. */
const loaded = new Map<string, string>();

/** All that a sliding window calls of a client: its types ask for more, and for less, since they leave out `eval`. */
const client = {
  async evalsha(sha: string, keys: string[], args: unknown[]) {
    const own = loaded.get(sha);
    if (own === undefined) throw new Error("NOSCRIPT");
    return redis.evalsha(own, keys.length, ...keys, ...args.map(String));
  },
  async eval(script: string, keys: string[], args: unknown[]) {
    const own = String(await redis.script("LOAD", script.replace(/^#!lua.*/, "")));
    loaded.set(createHash("sha1").update(script).digest("hex"), own);
    return redis.evalsha(own, keys.length, ...keys, ...args.map(String));
  },
} as unknown as ConstructorParameters<typeof Ratelimit>[0]["redis"];
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
