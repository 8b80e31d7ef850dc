const find = (id) => document.getElementById(id);
const answer = find("answer");
const notice = find("notice");

/** What each limit counts. */
const TITLES = {
  requests: ["Requests this minute", (count) => count.toLocaleString("en")],
  tokens: ["Tokens this minute", (count) => count.toLocaleString("en")],
  budget: ["Budget today", (millionths) => `$${(millionths / 1_000_000).toFixed(6)}`],
};

/** Set while an answer comes. */
let asking;

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!asking) ask();
});
find("stop").addEventListener("click", () => asking?.abort());
find("user").addEventListener("change", () => {
  asking?.abort();
  answer.textContent = notice.textContent = "";
  showLeft();
});

async function ask() {
  asking = new AbortController();
  setBusy(true);
  answer.textContent = notice.textContent = "";
  try {
    const response = await fetch("complete", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-User-Id": find("user").value },
      body: JSON.stringify({ prompt: find("prompt").value, max_tokens: find("max-tokens").valueAsNumber }),
      signal: asking.signal,
    });
    // The estimate is charged before the first word.
    await showLeft();
    if (response.ok) await showAnswer(response);
    else notice.textContent = refusalOf(response.status, await response.json());
  } catch (error) {
    notice.textContent = error.name === "AbortError" ? "Stopped." : "That didn't get through. Please try again.";
  } finally {
    asking = undefined;
    setBusy(false);
    await showLeft();
  }
}

async function showAnswer(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) answer.append(part.value);
}

function refusalOf(status, problem) {
  if (status !== 429) return "This question can't be answered now.";
  const names = (problem["violated-policies"] ?? []).map((name) => TITLES[name.split("/")[0]][0].toLowerCase());
  return `Not enough is left of: ${names.join(", ")}. Ask again in ${problem.retry_after_seconds} s, or for fewer tokens.`;
}

async function showLeft() {
  const user = find("user").value;
  const response = await fetch("left", { headers: { "X-User-Id": user } });
  const limits = response.ok ? await response.json() : [];
  // Another user may have been chosen meanwhile.
  if (user !== find("user").value) return;
  find("left").replaceChildren(...limits.flatMap(viewOf));
}

function viewOf({ name, limit, left }) {
  const [title, format] = TITLES[name];
  const term = Object.assign(document.createElement("dt"), { textContent: title });
  const meter = Object.assign(document.createElement("meter"), { max: limit, value: left, low: limit / 5 });
  meter.setAttribute("aria-label", title);
  const description = document.createElement("dd");
  description.dataset.name = name;
  description.append(meter, ` ${format(left)} of ${format(limit)}`);
  return [term, description];
}

function setBusy(isBusy) {
  find("ask").querySelector("[type=submit]").disabled = isBusy;
  find("stop").disabled = !isBusy;
}

showLeft();
