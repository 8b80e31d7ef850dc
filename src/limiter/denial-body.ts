import type { Config } from "../config/config";
import type { Denial, KeyDenials } from "../object/protocol";
import type { DenialBody, KeyState } from "../request/admin-schema";
import { limitBody } from "./decision-body";

/** The newest denials of a key that its object remembers. An object with code older than this remembers none. */
export function denialBodies(
  remembered: KeyDenials | undefined,
  most: number,
  policies: Config["policies"],
): Required<Pick<KeyState, "denials" | "denials_since">> {
  return {
    denials: (remembered?.denials ?? []).slice(0, most).map((denial) => denialBody(denial, policies)),
    denials_since: remembered ? new Date(remembered.sinceMs).toISOString() : null,
  };
}

function denialBody({ atMs, policy, cost, limits }: Denial, policies: Config["policies"]): DenialBody {
  const layers = policies.get(policy)?.layers ?? [];
  // An object does not know which layers are in shadow. They are asked by themselves, so a denial is theirs as a whole.
  const isShadow = limits.every(({ layer }) => layers.some(({ name, mode }) => name === layer && mode === "shadow"));
  return {
    at: new Date(atMs).toISOString(),
    policy,
    cost,
    ...(isShadow && { shadow: true as const }),
    limits: limits.map(({ layer, limit, used, isFull, override }) => ({
      layer,
      ...limitBody(limit),
      used,
      ...(isFull && { full: true as const }),
      ...(override && { override }),
    })),
  };
}
