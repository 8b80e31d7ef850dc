import type { Keys } from "../limiter/keys";
import type { OverrideToSet } from "../object/protocol";
import type { OverriddenKey } from "../request/admin-schema";
import { overrideBody } from "../request/override-request";
import type { Audit } from "./audit";

/**
 * Carries out what admins order about keys. An order is recorded before, so that none takes place without a record. A
 * record says that something was ordered; only once it is confirmed does it say that it was done.
 *
 * Without an audit, orders are carried out and leave no record.
 */
export class Orders {
  constructor(
    private readonly keys: Pick<Keys, "forget" | "setOverride" | "liftOverride">,
    private readonly audit: Audit | undefined,
  ) {}

  /** `by` is the name of the token. @throws Refusal `unreachable`, as the others do. */
  async setOverride(key: string, override: OverrideToSet, by: string): Promise<OverriddenKey> {
    const recorded = await this.audit?.record({ kind: "set_override", key, by, override });
    const order = recorded && { by, atMs: recorded.atMs };
    const set = await this.keys.setOverride(key, { ...override, ...(order && { order }) });
    if (recorded) await this.audit?.confirm(recorded, set);
    return { key, override: overrideBody(set) };
  }

  async liftOverride(key: string, by: string): Promise<void> {
    const recorded = await this.audit?.record({ kind: "lift_override", key, by });
    await this.keys.liftOverride(key);
    if (recorded) await this.audit?.confirm(recorded);
  }

  async reset(key: string, by: string): Promise<void> {
    const recorded = await this.audit?.record({ kind: "reset_key", key, by });
    await this.keys.forget(key);
    if (recorded) await this.audit?.confirm(recorded);
  }
}
