import { Redis } from "ioredis";
import type { Decide, PeerLimit, Standing } from "./server";

/** Connects to the Redis of the benchmark. Commands of one turn of the event loop are sent together, as Node is slow otherwise. */
export function connectRedis(port = Number(process.env.REDIS_PORT)): Redis {
  return new Redis(port, { enableAutoPipelining: true });
}

/** Decides each limit by itself, with a limiter of its own that `newLimiter` makes. */
export function decideEach<L>(
  newLimiter: (limit: PeerLimit, name: string) => L,
  decideOne: (limiter: L, limit: PeerLimit, op: "consume" | "check") => Promise<Standing>,
): Decide {
  const limiters = new Map<string, L>();
  const limiterOf = (limit: PeerLimit): L => {
    const name = `${limit.layer}/${limit.windowMs}/${limit.max}`;
    const limiter = limiters.get(name) ?? newLimiter(limit, name);
    limiters.set(name, limiter);
    return limiter;
  };
  return (op, limits) => Promise.all(limits.map((limit) => decideOne(limiterOf(limit), limit, op)));
}
