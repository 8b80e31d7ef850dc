import { html, nothing, render, type TemplateResult } from "lit-html";
import { Failure, type Mistake } from "./service";

export interface DialogOptions {
  readonly title: string;
  /** The text of the button that confirms. */
  readonly action: string;
  readonly isDangerous?: boolean;
  /** The content between title and buttons. Rendered anew whenever a field changes. */
  body(mistakes: FieldMistakes): TemplateResult;
  /** The name of the field that a mistake is about; undefined if no field is. */
  fieldOf?(mistake: Mistake): string | undefined;
  /** May throw a Failure: the dialog shows it and stays open. */
  submit(form: FormData): Promise<void>;
  /** Handles an error that the dialog can't show. */
  failed(error: unknown): void;
}

/** What is wrong with the fields of a dialog, by their names. */
export class FieldMistakes {
  readonly #byField = new Map<string, string[]>();
  /** The mistakes that are about no field. */
  readonly others: string[] = [];

  constructor(mistakes: readonly Mistake[] = [], fieldOf: DialogOptions["fieldOf"] = () => undefined) {
    for (const mistake of mistakes) {
      const field = fieldOf(mistake);
      const texts = field === undefined ? this.others : (this.#byField.get(field) ?? []);
      texts.push(sentence(mistake.detail));
      if (field !== undefined) this.#byField.set(field, texts);
    }
  }

  get isAtFields(): boolean {
    return this.#byField.size > 0;
  }

  /** For `aria-invalid` of a field. */
  isWrong(field: string): boolean {
    return this.#byField.has(field);
  }

  /** What is wrong with a field, to stand below it. The field names its id in `aria-describedby`. */
  at(field: string): TemplateResult {
    const texts = this.#byField.get(field);
    return html`<p id="mistake-${field}" class="trouble" ?hidden=${texts === undefined}>${texts?.join(" ")}</p>`;
  }
}

/** `must be in the future` as a sentence. */
function sentence(detail: string): string {
  return `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`;
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
  let mistakes = new FieldMistakes();
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
      mistakes = new FieldMistakes(error.mistakes, options.fieldOf);
    }
    isBusy = false;
    show();
    dialog.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  };

  function show(): void {
    render(
      html`
        <form @submit=${submit} @input=${show}>
          <h2 id="dialog-title">${options.title}</h2>
          <div class="fields">${options.body(mistakes)}</div>
          <div role="alert" class="trouble" ?hidden=${failure === undefined}>${failure && failureView(failure, mistakes)}</div>
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

function failureView({ message }: Failure, { isAtFields, others }: FieldMistakes): TemplateResult {
  return html`
    ${isAtFields ? "Nothing was changed. Correct the fields that are marked." : message}
    ${others.length > 0 ? html`<ul>${others.map((text) => html`<li>${text}</li>`)}</ul>` : nothing}
  `;
}
