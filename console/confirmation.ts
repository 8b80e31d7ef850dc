import { html } from "lit-html";
import type { OverrideKind } from "../src/core/override";
import { openDialog } from "./dialog";
import type { Surroundings } from "./page";

export const KINDS: Readonly<Record<OverrideKind, string>> = {
  ban: "Banned",
  exempt: "Exempt",
  limits: "Other limits",
};

interface Action {
  readonly title: string;
  /** The text of the button that confirms. */
  readonly action: string;
  readonly consequence: string;
  /** What is announced once it is done. */
  readonly done: string;
  work(): Promise<void>;
}

/** Asks before something is done to a key. */
export function confirmAction(
  key: string,
  { title, action, consequence, done, work }: Action,
  page: Surroundings,
): void {
  openDialog({
    title,
    action,
    isDangerous: true,
    failed: page.failed,
    body: () => html`<p><bdi>${key}</bdi></p><p class="note">${consequence}</p>`,
    submit: async () => {
      await work();
      page.announce(done);
      await page.reload();
    },
  });
}

export function confirmLift(key: string, kind: OverrideKind, page: Surroundings): void {
  const action = {
    title: "Lift the override",
    action: "Lift",
    consequence: `${KINDS[kind]}: this ends now. The policy's own limits apply again.`,
    done: "The override is lifted.",
    work: () => page.service.lift(key),
  };
  confirmAction(key, action, page);
}
