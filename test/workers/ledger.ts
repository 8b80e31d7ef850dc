import { Ledger } from "../../src/object/ledger";
import type {
  Answer,
  AnswerOf,
  Call,
  Charge,
  ChargeAnswer,
  EventAnswer,
  EventQuestion,
  Method,
  Outcome,
  Question,
  QuestionOf,
  ReleaseQuestion,
} from "../../src/object/protocol";

/** A ledger that is asked one thing at a time, and as objects ask it: by `decide`. A call that fails throws. */
export class AskedLedger extends Ledger {
  check(question: Question, wallMs: number): Answer {
    return this.#ask("check", question, wallMs);
  }

  consume(charge: Charge, wallMs: number): ChargeAnswer {
    return this.#ask("consume", charge, wallMs);
  }

  undo(charge: Charge, wallMs: number): Answer {
    return this.#ask("undo", charge, wallMs);
  }

  settle(question: EventQuestion, wallMs: number): EventAnswer {
    return this.#ask("settle", question, wallMs);
  }

  release(question: ReleaseQuestion, wallMs: number): EventAnswer {
    return this.#ask("release", question, wallMs);
  }

  #ask<M extends Method>(method: M, question: QuestionOf<M>, wallMs: number): AnswerOf<M> {
    const [outcome] = this.decide([{ method, question } as Call], wallMs) as Outcome<AnswerOf<M>>[];
    if (outcome && "answer" in outcome) return outcome.answer;
    throw new Error(outcome?.error);
  }
}
