import { html, nothing, type TemplateResult } from "lit-html";
import { count } from "./format";

/** A long list, of which the beginning is shown, and the rest on demand. */
export class Cut {
  #isWhole = false;

  constructor(
    private readonly most: number,
    private readonly render: () => void,
  ) {}

  get isWhole(): boolean {
    return this.#isWhole;
  }

  shown<T>(list: readonly T[]): readonly T[] {
    return this.#isWhole ? list : list.slice(0, this.most);
  }

  /** The button that shows the rest, or hides it again. `what`: the plural of the list's items. */
  button({ length }: { readonly length: number }, what: string): TemplateResult | typeof nothing {
    if (length <= this.most) return nothing;
    const toggle = () => {
      this.#isWhole = !this.#isWhole;
      this.render();
    };
    const text = this.#isWhole ? `Show the first ${count(this.most)}` : `Show all ${count(length)} ${what}`;
    return html`<button type="button" class="more" aria-expanded=${this.#isWhole} @click=${toggle}>${text}</button>`;
  }
}
