import { LARGEST_MAX, type Limit, longestWindowMs } from "./limit";

/** A layer in shadow counts like a live layer and reports what it would have denied, but denies nothing. */
export type Mode = "live" | "shadow";

/** Whether a request is denied or admitted when an object that counts it is unreachable. */
export type OnError = "deny" | "allow";

/** A named list of limits. Its key is the first of the attributes `by` that the subject has. */
export interface Layer {
  readonly name: string;
  readonly by: readonly string[];
  /** In the order of declaration. Limits of one kind have different windows. */
  readonly limits: readonly Limit[];
  readonly mode: Mode;
}

/** A named list of layers, all of which must admit. What every decision asks of its policy is worked out once. */
export class Policy {
  readonly live: readonly Layer[];
  readonly shadow: readonly Layer[];
  /** How long an event can count in one of the live layers. All of them know its id for as long. */
  readonly liveWindowMs: number;
  /** The largest cost that the live layers can ever admit. Infinity without live layers. */
  readonly mostCost: number;

  constructor(
    readonly name: string,
    readonly layers: readonly Layer[],
    /** The decision if an object is unreachable; undefined is that of the service. */
    readonly onError?: OnError | undefined,
  ) {
    this.live = layers.filter(({ mode }) => mode === "live");
    this.shadow = layers.filter(({ mode }) => mode === "shadow");
    this.liveWindowMs = longestWindowOfMs(this.live);
    this.mostCost = smallestMax(this.live);
  }
}

/** A limit's name in headers and in `violated-policies`: `caller/60s`, `caller/60s-concurrent`. Unique within a policy. */
export function limitName(layerName: string, { kind, windowMs }: Limit): string {
  return `${layerName}/${windowMs / 1_000}s${kind ? `-${kind}` : ""}`;
}

/** How long an event of these layers can count in one of them. All of them know its id for as long. */
export function longestWindowOfMs(layers: readonly Pick<Layer, "limits">[]): number {
  return Math.max(...layers.map(({ limits }) => longestWindowMs(limits)));
}

/** Largest cost that these layers can ever admit: the smallest limit on costs. Infinity without layers. */
export function smallestMax(layers: readonly Pick<Layer, "limits">[]): number {
  if (layers.length === 0) return Number.POSITIVE_INFINITY;
  const costLimits = layers.flatMap(({ limits }) => limits.filter(({ kind }) => kind === undefined));
  return Math.min(LARGEST_MAX, ...costLimits.map(({ max }) => max));
}
