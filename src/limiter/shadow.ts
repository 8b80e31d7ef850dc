import { type Cost, costIn, costOfCounters } from "../core/cost";
import { inShadow } from "../core/identity";
import { longestWindowOfMs, smallestMax } from "../core/policy";
import type { ChargeVerdict, EventQuestion, ObjectVerdict, Question } from "../object/protocol";
import type { Asker, ConsumeVerdict } from "../objects/asker";
import { type Hearer, heard } from "../objects/calls";
import type { FanOut } from "../objects/fan-out";
import type { ValidRequest } from "../request/read";

/** What the layers in shadow say of a request. */
export interface ShadowVerdict {
  readonly wouldDeny: boolean;
  /** The layers that never admit a cost as high as this one. */
  readonly neverFits: readonly string[];
  /** The layers had recorded this id before. */
  readonly replayed: boolean;
  /** In the order of `ValidRequest.shadow`. Empty for a layer that was not asked, or whose object is unreachable. */
  readonly standings: ObjectVerdict["standings"];
  readonly overrides?: NonNullable<ObjectVerdict["overrides"]>;
}

/**
 * The layers of a policy that are in shadow. They are asked after the live layers have decided, and make a decision of
 * their own, all or nothing, that counts as if they were live: a layer that becomes live goes on with its counters. They
 * never change the decision of the live layers, so an unreachable object is left out.
 */
export class Shadow {
  constructor(
    private readonly request: ValidRequest,
    /** How long an attempt lasts at most. */
    private readonly attemptMs: number,
    private readonly objects: FanOut,
    private readonly asker: Asker,
    /** Resolves when the live layers have decided the whole batch. */
    private readonly liveDecided: () => Promise<void>,
  ) {}

  /** Charges a request that the live layers have admitted. They have recognised the id, if there are any live layers. */
  async consume(id: string, { charged }: ChargeVerdict): Promise<ShadowVerdict> {
    if (this.#neverFits.length > 0) return this.leaveOut();
    const { policy, counters } = this.request;
    const hasLive = counters.length > 0;
    // Where the live layers forget an id within an attempt's time, a young event may belong to the previous decision.
    const forgetsSoon = hasLive && policy.liveWindowMs <= this.attemptMs;
    const question = {
      ...this.#questionOf(id),
      cost: this.#cost,
      aliases: [],
      // The layers will know the id for the longest window of the whole policy once they are live.
      windowMs: longestWindowOfMs(policy.layers),
      attemptMs: forgetsSoon ? 0 : this.attemptMs,
      ...(hasLive && { recognition: charged ? ("new" as const) : ("known" as const) }),
    };
    await this.liveDecided();
    const ask = (hearer: Hearer<ConsumeVerdict>) => this.objects.consume(question, this.asker, false, hearer);
    return shadowVerdictOf(await heard(ask));
  }

  /** Checks a request that was only checked by the live layers, or denied by them. */
  async check(): Promise<ShadowVerdict> {
    if (this.#neverFits.length > 0) return this.leaveOut();
    await this.liveDecided();
    return shadowVerdictOf(await this.objects.check({ ...this.#question, cost: this.#cost }, this.asker));
  }

  /** Settles or releases what was recorded here. Without live layers, only these know whether there is such an event. */
  async change(method: "settle" | "release", id: string): Promise<ShadowVerdict & { readonly found: boolean }> {
    await this.liveDecided();
    const verdict = await this.objects.change(method, this.#questionOf(id), this.asker);
    return { ...shadowVerdictOf(verdict), found: verdict.found };
  }

  /** The verdict without any call to an object. */
  leaveOut(): ShadowVerdict {
    const neverFits = this.#neverFits;
    return { wouldDeny: neverFits.length > 0, neverFits, replayed: false, standings: [] };
  }

  get #neverFits(): string[] {
    const { cost, shadow } = this.request;
    return shadow.filter((counter) => costIn(cost, counter.layer) > smallestMax([counter])).map(({ layer }) => layer);
  }

  /** Of a decision. A settle may leave layers out. */
  get #cost(): Cost {
    return costOfCounters(this.request.cost, this.request.shadow);
  }

  get #question(): Question {
    const { policy, cost, shadow } = this.request;
    return { policy: policy.name, cost, counters: shadow };
  }

  #questionOf(id: string): EventQuestion {
    return { ...this.#question, id, identity: inShadow(this.request.identity) };
  }
}

/** An id that was used with another cost is not counted again. That is a mistake, and no denial. */
function shadowVerdictOf(verdict: ObjectVerdict & Partial<ChargeVerdict>): ShadowVerdict {
  const { allowed, standings, overrides, replayed = false, conflicts = false } = verdict;
  return {
    wouldDeny: !allowed && !conflicts,
    neverFits: [],
    replayed: allowed && replayed,
    standings,
    ...(overrides && { overrides }),
  };
}
