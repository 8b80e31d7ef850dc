import { html, render, type TemplateResult } from "lit-html";
import { Failure } from "./service";

export interface DialogOptions {
  readonly title: string;
  /** The text of the button that confirms. */
  readonly action: string;
  readonly isDangerous?: boolean;
  /** The content between title and buttons. Rendered anew whenever a field changes. */
  body(): TemplateResult;
  /** May throw a Failure: the dialog shows it and stays open. */
  submit(form: FormData): Promise<void>;
  /** Handles an error that the dialog can't show. */
  failed(error: unknown): void;
}

const opened = new Set<HTMLDialogElement>();

export function closeDialogs(): void {
  for (const dialog of opened) dialog.close();
}

/** Opens a dialog that asks for input and a confirmation. Escape and Cancel close it; the focus returns to its place. */
export function openDialog(options: DialogOptions): void {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  let failure: Failure | undefined;
  let isBusy = false;

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    show();
    try {
      await options.submit(new FormData(event.target as HTMLFormElement));
      dialog.close();
    } catch (error) {
      if (!(error instanceof Failure) || error.isTokenRefused) {
        dialog.close();
        options.failed(error);
        return;
      }
      failure = error;
    }
    isBusy = false;
    show();
  };

  function show(): void {
    render(
      html`
        <form @submit=${submit} @input=${show}>
          <h2 id="dialog-title">${options.title}</h2>
          ${options.body()}
          <div role="alert" class="trouble" ?hidden=${failure === undefined}>
            ${failure?.message}
            <ul ?hidden=${!failure?.mistakes.length}>${failure?.mistakes.map((mistake) => html`<li>${mistake}</li>`)}</ul>
          </div>
          <div class="actions">
            <button type="button" @click=${() => dialog.close()}>Cancel</button>
            <button class=${options.isDangerous ? "danger" : "primary"} aria-disabled=${isBusy}>${options.action}</button>
          </div>
        </form>
      `,
      dialog,
    );
  }

  show();
  dialog.addEventListener("close", () => {
    opened.delete(dialog);
    dialog.remove();
    // The element that had the focus may be gone.
    if (document.activeElement === document.body) document.querySelector("h1")?.focus();
  });
  document.body.append(dialog);
  opened.add(dialog);
  dialog.showModal();
}
