/** The names of this service and its peers in results, charts and documents. */

export const SERVICE = "this service";
export const LUA_PEER = "Redis, one Lua script";
export const FLEXIBLE = "rate-limiter-flexible";
export const UPSTASH = "@upstash/ratelimit";
export const SLOWAPI = "FastAPI, slowapi";
