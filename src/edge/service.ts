import { type Config, readConfig } from "../config/config";
import { ConfigError } from "../config/mistake";
import { realTiming } from "./deadline";
import { Denials } from "./denials";
import { Limiter } from "./limiter";
import { type BoundNamespace, BoundObjects } from "./objects";
import { encodeTokens, type Tokens } from "./tokens";

/** The bindings of the Worker. Its variables are read by name, and trusted to be nothing in particular. */
export interface Env {
  readonly LIMITER_OBJECTS: BoundNamespace;
  /** The clock by which denials are remembered: the real one when left out. */
  readonly now?: () => number;
}

/** What an isolate makes of its environment, once. */
export interface Service {
  readonly config: Config;
  readonly limiter: Limiter;
  readonly tokens: Tokens;
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
    return {
      config,
      tokens,
      limiter: new Limiter(
        config,
        new BoundObjects(env.LIMITER_OBJECTS),
        realTiming,
        new Denials(config.denyCacheMs, env.now ?? Date.now),
      ),
    };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error({ message: error.message, mistakes: error.mistakes });
    return error;
  }
}
