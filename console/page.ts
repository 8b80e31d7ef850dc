import type { TemplateResult } from "lit-html";
import type { Service } from "./service";

/** What a page needs of the console around it. */
export interface Surroundings {
  readonly service: Service;
  /** The service's time. */
  now(): number;
  /** Shows the page as it stands. */
  render(): void;
  /** Asks the service again for what the page shows. */
  reload(): Promise<void>;
  /** Says what was done, to those who can't see it too. */
  announce(message: string): void;
  /** What becomes of a token that is not in force any more. Rethrows anything else. */
  failed(error: unknown): void;
}

export interface Page {
  readonly title: string;
  readonly everyMs: number;
  load(): Promise<void>;
  view(): TemplateResult;
  /** Shown no more. */
  leave?(): void;
}
