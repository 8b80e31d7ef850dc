import { html, render, type TemplateResult } from "lit-html";
import { Failure } from "./service";

export interface DialogOptions {
  readonly title: string;
  /** What the button that does it says. */
  readonly action: string;
  readonly isDangerous?: boolean;
  /** What stands between the two: asked for again whenever something in it changes. */
  body(): TemplateResult;
  /** A Failure is told where it was done, and the dialog stays. */
  submit(form: FormData): Promise<void>;
  /** What becomes of a failure that the dialog can't tell. */
  failed(error: unknown): void;
}

const opened = new Set<HTMLDialogElement>();

export function closeDialogs(): void {
  for (const dialog of opened) dialog.close();
}

/** Asks for what is needed and for a yes. Escape and Cancel are a no; the focus goes back to where it was. */
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
      if (!(error instanceof Failure) || error.isOfToken) {
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
    // What had the focus before may be gone with what was done.
    if (document.activeElement === document.body) document.querySelector("h1")?.focus();
  });
  document.body.append(dialog);
  opened.add(dialog);
  dialog.showModal();
}
