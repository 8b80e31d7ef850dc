const find = (id) => document.getElementById(id);
const conversation = find("conversation");
const text = find("text");
const writing = find("writing");
const notice = find("notice");
const paywall = find("paywall");

/** Nobody is signed in while it is empty. */
let user = "";
let isSending = false;
/** Set while a wait counts down. */
let endWait;

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = text.value.trim();
  if (message !== "" && !isSending) send(message);
});

find("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(find("user").value.trim());
});

find("sign-out").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn("");
});

/** The text stays in the input until it is let pass: whatever becomes of it, nobody has to write it again. */
async function send(message) {
  text.focus();
  setSending(true);
  notice.textContent = "";
  try {
    const response = await fetch("chat/message", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(user && { "X-User-Id": headerValue(user) }) },
      body: JSON.stringify({ text: message }),
    });
    if (response.ok) await showAnswer(message, response);
    else showRefusal(response.status, await response.json());
  } catch {
    showNotice();
    // An answer that broke off.
    text.value ||= message;
  } finally {
    setSending(false);
    // A notice and a paywall take their room from the conversation.
    scrollToEnd();
  }
}

async function showAnswer(message, response) {
  // Unless the next one is already being written.
  if (text.value.trim() === message) text.value = "";
  show("user", message);
  const answer = show("assistant", "", `answered by process ${response.headers.get("X-Answered-By")}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    answer.append(part.value);
    scrollToEnd();
  }
}

/** Each of the three is another matter: a wait ends by itself, a paywall does not, and the rest nobody can foresee. */
function showRefusal(status, problem) {
  if (status === 429 && problem.retry_after_seconds > 0) showWait(problem.retry_after_seconds);
  else if (status === 402) showPaywall(problem.detail);
  else showNotice();
}

function showWait(waitSeconds) {
  const endsAt = Date.now() + waitSeconds * 1_000;
  const message = show("assistant wait", "You're sending messages a bit fast — please wait ");
  const left = document.createElement("span");
  // A timer is not read out every time it changes.
  left.setAttribute("role", "timer");
  message.append(left);

  const tick = () => {
    // By the clock and not by counting: a page in the background ticks rarely.
    const leftSeconds = Math.ceil((endsAt - Date.now()) / 1_000);
    left.textContent = `~${leftSeconds}s`;
    if (leftSeconds <= 0) endWait();
  };
  const ticking = setInterval(tick, 1_000);
  endWait = () => {
    clearInterval(ticking);
    endWait = undefined;
    message.parentElement.remove();
    writing.disabled = false;
    // Unless whoever waits has gone to another place meanwhile.
    if ([document.body, text].includes(document.activeElement)) text.focus();
  };
  writing.disabled = true;
  tick();
  scrollToEnd();
}

function showPaywall(detail) {
  find("paywall-detail").textContent = detail;
  paywall.hidden = false;
  writing.disabled = true;
  find("paywall-title").focus();
}

function showNotice() {
  notice.textContent = "That didn't get through. Please try again in a moment.";
}

/** Waits and paywalls are somebody's: another user begins with neither, and with a conversation of their own. */
function signIn(name) {
  user = name;
  endWait?.();
  paywall.hidden = true;
  notice.textContent = "";
  conversation.replaceChildren();
  find("sign-in").hidden = user !== "";
  find("sign-out").hidden = user === "";
  find("signed-in-user").textContent = user;
  find("user").value = "";
  writing.disabled = false;
  text.focus();
}

function setSending(sending) {
  isSending = sending;
  // An answer is read out once it is complete.
  conversation.setAttribute("aria-busy", String(sending));
  for (const button of document.querySelectorAll("button")) button.disabled = sending;
}

/** Adds a message, as text and never as HTML. Returns where its text is. */
function show(kind, message, origin = "") {
  const body = document.createElement("p");
  body.append(message);
  const article = document.createElement("article");
  article.className = kind;
  article.append(body);
  if (origin) article.append(Object.assign(document.createElement("small"), { textContent: origin }));
  conversation.append(article);
  scrollToEnd();
  return body;
}

function scrollToEnd() {
  conversation.scrollTop = conversation.scrollHeight;
}

/** Headers carry bytes: of a name in any script, those of its UTF-8. */
function headerValue(name) {
  return String.fromCharCode(...new TextEncoder().encode(name));
}

// Here and not by autofocus, which readers of the screen would be moved by before they know the page.
text.focus();
