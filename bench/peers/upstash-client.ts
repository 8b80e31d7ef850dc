import { createHash } from "node:crypto";
import type { Ratelimit } from "@upstash/ratelimit";
import type { Redis } from "ioredis";

/** The methods of a client that a sliding window calls. The types of the package name others, and leave out `eval`. */
export function upstashClient(redis: Redis): ConstructorParameters<typeof Ratelimit>[0]["redis"] {
  // Redis refuses the flag of Upstash in the first line of a script, so the scripts are loaded without it. Maps the digest
  // that the limiter uses to the digest of the loaded script.
  const loaded = new Map<string, string>();
  const client = {
    async evalsha(sha: string, keys: string[], args: unknown[]) {
      const digest = loaded.get(sha);
      if (digest === undefined) throw new Error("NOSCRIPT");
      return redis.evalsha(digest, keys.length, ...keys, ...args.map(String));
    },
    async eval(script: string, keys: string[], args: unknown[]) {
      const digest = String(await redis.script("LOAD", script.replace(/^#!lua.*/, "")));
      loaded.set(createHash("sha1").update(script).digest("hex"), digest);
      return redis.evalsha(digest, keys.length, ...keys, ...args.map(String));
    },
  };
  return client as unknown as ConstructorParameters<typeof Ratelimit>[0]["redis"];
}
