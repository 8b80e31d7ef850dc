import { inShadow } from "../core/identity";
import { layersIn, longestWindowOfMs, smallestMax } from "../core/policy";
import type { Answer, ChargeAnswer, EventQuestion, Question } from "../object/protocol";
import type { FanOut, IfSilent, WaitUntil } from "./fan-out";
import type { Asked } from "./request";

/** What the layers in shadow have to say about a decision. */
export interface ShadowAnswer {
  readonly wouldDeny: boolean;
  /** Those that never admit a cost as high as this one. */
  readonly neverFits: readonly string[];
  /** They had recorded this id before. */
  readonly replayed: boolean;
  /** In the order of `Asked.shadow`: none of a layer that was not asked, or whose object is silent. */
  readonly standings: Answer["standings"];
  readonly overrides?: NonNullable<Answer["overrides"]>;
}

/**
 * The layers of a policy that are in shadow. They are asked once the live ones have decided, and make a decision of their
 * own, all or nothing, that counts as if they were live: a layer that becomes live goes on with its counters. Whatever
 * becomes of it, a decision stays as the live layers made it, and so who is silent is left out.
 */
export class Shadow {
  constructor(
    private readonly asked: Asked,
    /** An event that is no older may be of an attempt that is still being made. */
    private readonly youngMs: number,
    private readonly objects: (ifSilent: IfSilent) => Promise<FanOut>,
  ) {}

  /** Of a request that the live layers have admitted: whether its id is known they have judged, if there are any. */
  async consume(id: string, { charged }: ChargeAnswer, waitUntil: WaitUntil): Promise<ShadowAnswer> {
    if (this.#neverFits.length > 0) return this.unasked();
    // Once they are live, an id is known for the longest window of the whole policy.
    const { policy, counters } = this.asked;
    const hasLive = counters.length > 0;
    // What is young may be of the decision before this one, where the live layers forget an id as soon.
    const isSoon = hasLive && longestWindowOfMs(layersIn("live", policy)) <= this.youngMs;
    const youngMs = isSoon ? 0 : this.youngMs;
    const charge = { ...this.#questionOf(id), keepMs: longestWindowOfMs(policy.layers), youngMs };
    const judged = charged ? "new" : "known";
    const objects = await this.objects("leave out");
    return told(await objects.consume(charge, waitUntil, hasLive ? judged : undefined));
  }

  /** Of a check, and of a request that the live layers have denied. */
  async check(): Promise<ShadowAnswer> {
    if (this.#neverFits.length > 0) return this.unasked();
    const objects = await this.objects("leave out");
    return told(await objects.check(this.#question));
  }

  /** Settles or releases what was recorded here. Without live layers, nobody else knows whether there is such an event. */
  async change(method: "settle" | "release", id: string): Promise<ShadowAnswer & { readonly found: boolean }> {
    const objects = await this.objects(this.asked.counters.length > 0 ? "leave out" : "refuse");
    const answer = await objects[method](this.#questionOf(id));
    return { ...told(answer), found: answer.found };
  }

  /** Where no object was asked. */
  unasked(): ShadowAnswer {
    const neverFits = this.#neverFits;
    return { wouldDeny: neverFits.length > 0, neverFits, replayed: false, standings: [] };
  }

  get #neverFits(): string[] {
    const { cost, shadow } = this.asked;
    return shadow.filter((counter) => cost > smallestMax([counter])).map(({ layer }) => layer);
  }

  get #question(): Question {
    const { policy, cost, shadow } = this.asked;
    return { policy: policy.name, cost, counters: shadow };
  }

  #questionOf(id: string): EventQuestion {
    return { ...this.#question, id, subject: inShadow(this.asked.identity) };
  }
}

/** An id that was used with another cost is not counted again: that is a mistake, and no denial. */
function told(answer: Answer & Partial<ChargeAnswer>): ShadowAnswer {
  const { allowed, standings, overrides, replayed = false, conflicts = false } = answer;
  return {
    wouldDeny: !allowed && !conflicts,
    neverFits: [],
    replayed: allowed && replayed,
    standings,
    ...(overrides && { overrides }),
  };
}
