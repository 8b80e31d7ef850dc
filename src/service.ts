import { Audit, type AuditNamespace } from "./audit/audit";
import { Orders } from "./audit/orders";
import { type Config, readConfig } from "./config/config";
import { ConfigError } from "./config/mistake";
import type { Analytics } from "./counting/analytics";
import { Counts } from "./counting/counts";
import { DenialLog } from "./counting/denial-log";
import { type StatsNamespace, StatsObjects } from "./counting/stats-objects";
import { logFault, setVersion } from "./fault";
import { Keys } from "./limiter/keys";
import { Limiter } from "./limiter/limiter";
import { type BoundNamespace, BoundObjects } from "./objects/binding";
import { DenialCache } from "./objects/denial-cache";
import { inJurisdiction, type Restrictable } from "./objects/jurisdiction";
import { realTiming } from "./objects/timing";
import { Tokens } from "./request/tokens";

export interface HubStub extends Pick<Fetcher, "fetch"> {
  endSessions(): Promise<void>;
}

/** The hubs: the objects in which sessions end. */
export interface HubNamespace extends Restrictable {
  getByName(name: string, options: { locationHint?: DurableObjectLocationHint }): HubStub;
}

/** Whether one more from this key is within the limit: https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/ */
export interface SignInLimit {
  limit(request: { readonly key: string }): Promise<{ readonly success: boolean }>;
}

/** The bindings of the Worker. `config/config.ts` reads its variables by name. */
export interface Env {
  readonly LIMITER_OBJECTS: BoundNamespace;
  /** Without it no counts can be read. */
  readonly LIMITER_STATS?: StatsNamespace;
  readonly LIMITER_ANALYTICS?: Analytics;
  /** Records what admins order. Without it they order without a record. */
  readonly LIMITER_AUDIT?: AuditNamespace;
  /** Where sessions end. Without it there are none. */
  readonly LIMITER_HUBS?: HubNamespace;
  /** Slows failed sign-ins down. Without it they are only counted. */
  readonly LIMITER_FAILED_SIGN_INS?: SignInLimit;
  /** The version of the Worker, for the lines of the log. */
  readonly CF_VERSION_METADATA?: WorkerVersionMetadata;
  /** The files of the console. Without them there is no console. */
  readonly ASSETS?: Pick<Fetcher, "fetch">;
}

/** The service of an isolate, made once from its environment. */
export interface Service {
  readonly config: Config;
  readonly limiter: Limiter;
  readonly keys: Keys;
  readonly orders: Orders;
  readonly audit: Audit | undefined;
  readonly tokens: Tokens;
  readonly counts: Counts | undefined;
  readonly signInLimit: SignInLimit | undefined;
  readonly now: () => number;
}

const services = new WeakMap<Env, Service | ConfigError>();

/** @throws ConfigError, after logging it once: the service never runs on half of a configuration. */
export function serviceOf(env: Env): Service {
  const service = services.get(env) ?? startService(env);
  if (service instanceof ConfigError) throw service;
  return service;
}

/** The counts of a service that has started. Undefined if it has none, or a wrong configuration. */
export function countsIn(env: Env): Counts | undefined {
  const service = services.get(env);
  return service instanceof ConfigError ? undefined : service?.counts;
}

/** Starts the service with a clock for the denial cache and for instants that callers name. */
export function startService(env: Env, now: () => number = Date.now): Service | ConfigError {
  const service = newService(env, now);
  services.set(env, service);
  return service;
}

function newService(env: Env, now: () => number): Service | ConfigError {
  setVersion(env.CF_VERSION_METADATA);
  try {
    const config = readConfig({ ...env });
    const tokens = new Tokens(config);
    const counts = newCounts(env, config);
    const objects = new BoundObjects(inJurisdiction(env.LIMITER_OBJECTS, config.jurisdiction), counts?.observe);
    const denialCache = new DenialCache(config.denyCacheMs, now);
    const watchers = [...(counts ? [counts] : []), new DenialLog(config, realTiming.random)];
    const limiter = new Limiter(config, objects, realTiming, denialCache, watchers);
    const keys = new Keys(config, objects, realTiming, denialCache);
    const { LIMITER_AUDIT: auditObject } = env;
    const audit = auditObject && new Audit(inJurisdiction(auditObject, config.jurisdiction), config, realTiming);
    const orders = new Orders(keys, audit);
    const signInLimit = env.LIMITER_FAILED_SIGN_INS;
    return { config, tokens, limiter, keys, orders, audit, counts, signInLimit, now };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    logFault("config_invalid", undefined, { mistakes: error.mistakes });
    return error;
  }
}

/** @throws ConfigError */
function newCounts({ LIMITER_STATS: stats, LIMITER_ANALYTICS: analytics }: Env, config: Config): Counts | undefined {
  switch (config.counts) {
    case "off":
      return undefined;
    case "analytics":
      if (analytics) return new Counts(config, { analytics }, realTiming);
      throw new ConfigError([{ where: "LIMITER_COUNTS", what: "must not be analytics without LIMITER_ANALYTICS" }]);
    case "objects":
      if (!stats) return undefined;
      return new Counts(
        config,
        { objects: new StatsObjects(inJurisdiction(stats, config.jurisdiction), config, realTiming), analytics },
        realTiming,
      );
  }
}
