import { createHash } from "node:crypto";
import type { Ratelimit } from "@upstash/ratelimit";
import type { Redis } from "ioredis";

/** All that a sliding window calls of a client: its types ask for more, and for less, since they leave out `eval`. */
export function upstashClient(redis: Redis): ConstructorParameters<typeof Ratelimit>[0]["redis"] {
  // The digests that the limiter knows its scripts by, and Redis': it refuses the flag of Upstash's own in their first line.
  const loaded = new Map<string, string>();
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
  };
  return client as unknown as ConstructorParameters<typeof Ratelimit>[0]["redis"];
}
