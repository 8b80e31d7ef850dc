import type { Redis, Result } from "ioredis";

declare module "ioredis" {
  interface RedisCommander<Context> {
    decide(...args: (string | number)[]): Result<number[], Context>;
  }
}

/**
 * The limiter that a careful team builds on Redis: the exact log of each key in a sorted set, and one script that decides
 * over all limits of all keys and records all or nothing. KEYS has the keys of all decisions. ARGV has for each decision:
 * 1 to record it, its id, the number of its limits, and for each limit the index of its key, the maximum and the window.
 */
export const SCRIPT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, at = {}, 1
while at < #ARGV do
  local record, id, count = ARGV[at] == '1', ARGV[at + 1], tonumber(ARGV[at + 2])
  local first, denied, longest = #answer + 1, false, {}
  at = at + 3
  for _ = 1, count do
    local index, most, window = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local key, start, wait = KEYS[index], now - window + 1, 0
    local used = redis.call('ZCOUNT', key, start, '+inf')
    if used >= most then
      local leaving = redis.call('ZRANGE', key, start, '+inf', 'BYSCORE', 'LIMIT', used - most, 1, 'WITHSCORES')
      wait, denied = leaving[2] + window - now, true
    end
    answer[#answer + 1], answer[#answer + 2] = used, wait
    longest[index] = math.max(longest[index] or 0, window)
    at = at + 3
  end
  if record and not denied then
    for index, window in pairs(longest) do
      redis.call('ZREMRANGEBYSCORE', KEYS[index], '-inf', now - window)
      redis.call('ZADD', KEYS[index], now, id)
      redis.call('PEXPIRE', KEYS[index], window)
    end
    for i = first, #answer, 2 do answer[i] = answer[i] + 1 end
  end
end
return answer`;

/** Gives a connection the command `decide`, which runs the script. */
export function defineDecide(redis: Redis): Redis {
  redis.defineCommand("decide", { lua: SCRIPT });
  return redis;
}
