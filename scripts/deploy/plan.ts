import { limitLines } from "../../src/cli/limits";
import { type Config, readConfig } from "../../src/config/config";
import { ConfigError } from "../../src/config/mistake";
import { unknownVariables } from "../../src/local/unknown-variables";
import type { WorkerConfig } from "./wrangler";

/** The secrets that hold tokens. */
export const TOKEN_SECRETS = ["LIMITER_TOKEN_DIGESTS", "LIMITER_TOKENS", "LIMITER_ADMIN_TOKENS"];

/** The most that Cloudflare takes: https://developers.cloudflare.com/workers/platform/limits/#environment-variables */
const LARGEST_VARIABLE_BYTES = 5 * 1_024;
const LARGE_VARIABLE_BYTES = 0.8 * LARGEST_VARIABLE_BYTES;

/** What the service lacks without a binding. Without LIMITER_OBJECTS there is no service. */
const WITHOUT = {
  LIMITER_STATS: "nothing is counted: /v1/stats and /metrics are a 404",
  LIMITER_HUBS: "there are no sessions: clients use HTTP",
  LIMITER_AUDIT: "what admins order leaves no record: /v1/audit and /v1/overrides are a 404",
};

/** The location hints within each jurisdiction. */
const HINTS_IN = {
  eu: ["weur", "eeur"],
  us: ["wnam", "enam"],
  fedramp: ["wnam", "enam"],
  "fedramp-high": ["wnam", "enam"],
};

/** What a deploy would do. Nothing of it asks Cloudflare. */
export interface Plan {
  /** What is deployed, a line each. */
  readonly does: readonly string[];
  /** What the deployment lacks. It works without. */
  readonly lacks: readonly string[];
  /** Mistakes. Nothing is deployed. */
  readonly mistakes: readonly string[];
}

/** Plans the deploy of an environment of `wrangler.toml`. */
export function planOf(worker: WorkerConfig): Plan {
  const { config, mistakes } = configOf(worker.vars);
  const places = placesOf(worker);
  return {
    does: [
      `Deploys the Worker ${worker.name} to ${places.join(", ") || "no address: only other Workers reach it"}.`,
      "Resets every object and ends all sessions. Nothing admitted is forgotten.",
      ...worker.durable_objects.bindings.map(
        ({ name, class_name, script_name }) => `${name}: objects of ${script_name ?? worker.name}/${class_name}`,
      ),
      `Variables, in bytes: ${variablesOf(worker.vars)
        .map(({ name, bytes }) => `${name} ${bytes}`)
        .join(", ")}`,
      ...(config ? limitLines(config) : []),
    ],
    lacks: [...lackingAround(worker), ...(config ? lackingIn(config) : []), ...largeVariables(worker.vars)],
    mistakes: [...mistakes, ...variableMistakes(worker.vars), ...bindingMistakes(worker), ...placeMistakes(places)],
  };
}

function configOf(vars: WorkerConfig["vars"]): { config?: Config; mistakes: string[] } {
  try {
    return { config: readConfig(vars), mistakes: [] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { mistakes: error.mistakes.map(({ where, what }) => `${where}: ${what}.`) };
  }
}

function placesOf({ name, routes = [], workers_dev }: WorkerConfig): string[] {
  const patterns = routes.map((route) => (typeof route === "string" ? route : route.pattern));
  // Wrangler's own rule: without routes a Worker is on workers.dev.
  return (workers_dev ?? routes.length === 0) ? [...patterns, `${name}.<your subdomain>.workers.dev`] : patterns;
}

function placeMistakes(places: readonly string[]): string[] {
  return places
    .filter((place) => /(^|\.)example\.(com|net|org)$/.test(place))
    .map((place) => `${place} is an example. Write your own domain into wrangler.toml.`);
}

function variablesOf(vars: WorkerConfig["vars"]): { name: string; bytes: number }[] {
  return Object.entries(vars).map(([name, value]) => ({
    name,
    bytes: Buffer.byteLength(typeof value === "string" ? value : JSON.stringify(value)),
  }));
}

function variableMistakes(vars: WorkerConfig["vars"]): string[] {
  const tooLarge = variablesOf(vars).filter(({ bytes }) => bytes > LARGEST_VARIABLE_BYTES);
  return [
    ...unknownVariables(Object.keys(vars)),
    ...tooLarge.map(({ name, bytes }) => `${name} has ${bytes} bytes. Cloudflare takes ${LARGEST_VARIABLE_BYTES}.`),
    ...TOKEN_SECRETS.filter((name) => name in vars).map(
      (name) => `${name} is in wrangler.toml, where everybody reads it. Put it as a secret, and replace its tokens.`,
    ),
  ];
}

function largeVariables(vars: WorkerConfig["vars"]): string[] {
  return variablesOf(vars)
    .filter(({ bytes }) => bytes > LARGE_VARIABLE_BYTES && bytes <= LARGEST_VARIABLE_BYTES)
    .map(({ name, bytes }) => `${name} has ${bytes} of the ${LARGEST_VARIABLE_BYTES} bytes that Cloudflare takes.`);
}

function bindingMistakes({ durable_objects: { bindings } }: WorkerConfig): string[] {
  if (bindings.some(({ name }) => name === "LIMITER_OBJECTS")) return [];
  return ["LIMITER_OBJECTS is not bound. An environment inherits no bindings: repeat those of the others."];
}

/** What the deployment lacks around the code. */
function lackingAround({ routes = [], limits, durable_objects: { bindings }, observability }: WorkerConfig): string[] {
  const unbound = Object.entries(WITHOUT).filter(([binding]) => !bindings.some(({ name }) => name === binding));
  return [
    ...(routes.length === 0
      ? ["No domain: workers.dev has no WAF, no mTLS and no rate limiting rules. [env.production] has a domain."]
      : []),
    ...(limits ? [] : ["No [limits]: a request may use 30 s of processor time. [env.production] has limits."]),
    ...(observability?.enabled ? [] : ["No logs: a fault can't be looked into."]),
    ...unbound.map(([binding, consequence]) => `No ${binding}: ${consequence}.`),
  ];
}

function lackingIn({ locationHint, jurisdiction }: Config): string[] {
  if (locationHint === undefined)
    return ["No LIMITER_LOCATION_HINT: an object is created near its first caller, and stays there."];
  if (jurisdiction === undefined || HINTS_IN[jurisdiction].includes(locationHint)) return [];
  return [`LIMITER_LOCATION_HINT=${locationHint} is outside of LIMITER_JURISDICTION=${jurisdiction}.`];
}
