import type { ChangeVerdict, EventQuestion, ObjectVerdict, Question } from "../object/protocol";
import type { BatchOrder } from "./batch-order";
import type { ConsumeOptions, ConsumeQuestion, ConsumeVerdict, Objects } from "./objects";

/** The objects, for the decision at one position of a batch: it is answered as if the batch were decided one by one. */
export class OrderedObjects implements Objects {
  constructor(
    private readonly objects: Objects,
    private readonly order: BatchOrder,
    private readonly position: number,
    private readonly giveUpAtMs: number,
  ) {}

  check(question: Question): Promise<ObjectVerdict> {
    const ask = () => this.objects.check(question);
    return this.order.check(this.position, question, this.giveUpAtMs, ask);
  }

  consume(question: ConsumeQuestion, options: ConsumeOptions): Promise<ConsumeVerdict> {
    const ask = (isLikelyDenied: boolean) => this.objects.consume(question, { ...options, isLikelyDenied });
    return this.order.consume(this.position, question, this.giveUpAtMs, ask);
  }

  settle(question: EventQuestion): Promise<ChangeVerdict> {
    return this.order.change(this.position, question, this.giveUpAtMs, () => this.objects.settle(question));
  }

  release(question: EventQuestion): Promise<ChangeVerdict> {
    return this.order.change(this.position, question, this.giveUpAtMs, () => this.objects.release(question));
  }
}
