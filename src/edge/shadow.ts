import { longestWindowOfMs, smallestMax } from "../core/policy";
import type { Answer, ChargeAnswer, EventQuestion, Question } from "../object/protocol";
import type { FanOut, IfSilent, WaitUntil } from "./fan-out";
import type { Asked } from "./request";

/** An event of layers in shadow is not that of the live ones, though both may be of one key and have one id. */
const SUBJECT_SUFFIX = "~shadow";

/** What the layers in shadow have to say about a decision. */
export interface ShadowAnswer {
  readonly wouldDeny: boolean;
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
    private readonly objects: (ifSilent: IfSilent) => Promise<FanOut>,
  ) {}

  /** Of a request that the live layers have admitted. */
  async consume(id: string, waitUntil: WaitUntil): Promise<ShadowAnswer> {
    if (this.#neverFits) return this.unasked();
    // Once they are live, an id is remembered for the longest window of the whole policy.
    const charge = { ...this.#questionOf(id), keepMs: longestWindowOfMs(this.asked.policy.layers) };
    const objects = await this.objects("leave out");
    return told(await objects.consume(charge, waitUntil));
  }

  /** Of a check, and of a request that the live layers have denied. */
  async check(): Promise<ShadowAnswer> {
    if (this.#neverFits) return this.unasked();
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
    return { wouldDeny: this.#neverFits, replayed: false, standings: [] };
  }

  get #neverFits(): boolean {
    return this.asked.cost > smallestMax(this.asked.shadow);
  }

  get #question(): Question {
    const { policy, cost, shadow } = this.asked;
    return { policy: policy.name, cost, counters: shadow };
  }

  #questionOf(id: string): EventQuestion {
    return { ...this.#question, id, subject: this.asked.subjectDigest + SUBJECT_SUFFIX };
  }
}

/** An id that was used with another cost is not counted again: that is a mistake, and no denial. */
function told(answer: Answer & Partial<ChargeAnswer>): ShadowAnswer {
  const { allowed, standings, overrides, replayed = false, conflicts = false } = answer;
  return {
    wouldDeny: !allowed && !conflicts,
    replayed: allowed && replayed,
    standings,
    ...(overrides && { overrides }),
  };
}
