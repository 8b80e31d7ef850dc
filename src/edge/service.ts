import { type Config, readConfig } from "../config/config";
import { ConfigError } from "../config/mistake";
import { type Analytics, Counts, type StatsNamespace } from "./counts";
import { realTiming } from "./deadline";
import { DenialLog } from "./denial-log";
import { Denials } from "./denials";
import { Keys } from "./keys";
import { Limiter } from "./limiter";
import { type BoundNamespace, BoundObjects } from "./objects";
import { encodeTokens, type Tokens } from "./tokens";

/** The bindings of the Worker. Its variables are read by name, and trusted to be nothing in particular. */
export interface Env {
  readonly LIMITER_OBJECTS: BoundNamespace;
  /** Without it nothing is counted. */
  readonly LIMITER_STATS?: StatsNamespace;
  readonly LIMITER_ANALYTICS?: Analytics;
  /** The files of the console. Left out where only decisions are of interest: there is no console then. */
  readonly ASSETS?: Pick<Fetcher, "fetch">;
  /** The clock by which denials are remembered, and instants that callers name are held to: the real one when left out. */
  readonly now?: () => number;
}

/** What an isolate makes of its environment, once. */
export interface Service {
  readonly config: Config;
  readonly limiter: Limiter;
  readonly keys: Keys;
  readonly tokens: Tokens;
  readonly counts: Counts | undefined;
  readonly now: () => number;
}

const services = new WeakMap<Env, Service | ConfigError>();

/** @throws ConfigError, after logging it once: the service never runs on half of a configuration. */
export function serviceOf(env: Env): Service {
  const known = services.get(env) ?? start(env);
  services.set(env, known);
  if (known instanceof ConfigError) throw known;
  return known;
}

function start(env: Env): Service | ConfigError {
  try {
    const config = readConfig({ ...env });
    const tokens = encodeTokens({ caller: config.callerTokens, admin: config.adminTokens });
    const { LIMITER_STATS: stats, LIMITER_ANALYTICS: analytics, now = Date.now } = env;
    const counts = stats && new Counts(stats, config, realTiming, analytics);
    const objects = new BoundObjects(env.LIMITER_OBJECTS, counts?.observe);
    const denialLog = new DenialLog(config, realTiming.random);
    const denials = new Denials(config.denyCacheMs, now);
    const limiter = new Limiter(config, objects, realTiming, denials, { counts, denialLog });
    const keys = new Keys(config, objects, realTiming, denials);
    return { config, tokens, limiter, keys, counts, now };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error({ message: error.message, mistakes: error.mistakes });
    return error;
  }
}
