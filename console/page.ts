import type { TemplateResult } from "lit-html";
import type { Service } from "./service";

/** The console, as a page uses it. */
export interface Surroundings {
  readonly service: Service;
  /** The service's time. */
  now(): number;
  /** Renders the page with its current data. */
  render(): void;
  /** Loads the page's data again. */
  reload(): Promise<void>;
  /** Shows what was done, and announces it to screen readers. */
  announce(message: string): void;
  /** Handles a Failure: signs out if the token was refused, else shows the message. Rethrows any other error. */
  failed(error: unknown): void;
}

export interface Page {
  readonly title: string;
  readonly everyMs: number;
  load(): Promise<void>;
  view(): TemplateResult;
  /** Cleans up when another page is shown. */
  leave?(): void;
}
