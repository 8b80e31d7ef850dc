import { html, type TemplateResult } from "lit-html";

/** Asks for a token, and shows why the last one was refused. */
export function signInView(refusal: string, signIn: (token: string) => Promise<void>): TemplateResult {
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const input = form.elements.namedItem("token") as HTMLInputElement;
    const button = form.querySelector("button") as HTMLButtonElement;
    // An HTTP header can't carry other characters.
    input.setCustomValidity(
      /^[\x21-\x7e]+$/.test(input.value.trim())
        ? ""
        : "A token has visible ASCII characters only. Remove spaces and other characters.",
    );
    if (!form.reportValidity()) return;
    button.disabled = true;
    await signIn(input.value.trim());
    button.disabled = false;
    if (!input.isConnected) return;
    input.value = "";
    input.focus();
  };
  return html`
    <main class="sign-in">
      <form class="card" @submit=${submit} novalidate>
        <h1>Limiter console</h1>
        <label for="token">Admin token</label>
        <input id="token" name="token" type="password" autocomplete="off" required autofocus
          aria-describedby="refusal where" @input=${(event: Event) => (event.target as HTMLInputElement).setCustomValidity("")} />
        <p id="refusal" role="alert" class="trouble" ?hidden=${refusal === ""}>${refusal}</p>
        <button class="primary">Sign in</button>
        <p id="where" class="note">Use one of <code>LIMITER_ADMIN_TOKENS</code>. <code>npm start</code> keeps them in
          <code>.dev.vars</code>. The token is kept until this tab is closed.</p>
      </form>
    </main>
  `;
}
