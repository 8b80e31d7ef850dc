import type { Jurisdiction } from "../config/config";
import { ConfigError } from "../config/mistake";

/** A namespace of objects. On Cloudflare it can be restricted to a jurisdiction. */
export interface Restrictable {
  jurisdiction?(name: string): unknown;
}

/**
 * The objects of a namespace that run and store their data in the jurisdiction. An object has another id there than
 * without it, so setting it on a running service forgets all counters.
 * @throws ConfigError where the runtime has no such jurisdiction: data must not end up elsewhere. workerd has none.
 */
export function inJurisdiction<N extends Restrictable>(namespace: N, jurisdiction: Jurisdiction | undefined): N {
  if (jurisdiction === undefined) return namespace;
  try {
    const restricted = namespace.jurisdiction?.(jurisdiction);
    if (restricted !== undefined) return restricted as N;
  } catch (error) {
    throw unusable(error instanceof Error ? error.message : String(error));
  }
  throw unusable("This runtime has no jurisdictions.");
}

function unusable(reason: string): ConfigError {
  return new ConfigError([{ where: "LIMITER_JURISDICTION", what: `can't be used here. ${reason}` }]);
}
