// What the page asks the server: with a token where one is wanted, which is kept for this tab only.
const KEY = "edge-all-token";
let askForToken = async () => "";

export function onToken(ask) {
  askForToken = ask;
}

export async function ask(path, options = {}) {
  for (let wrong = false; ; wrong = true) {
    const token = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const answer = await fetch(path, { ...options, headers, cache: "no-store" });
    if (answer.status !== 401) return answer;
    if (sessionStorage.getItem(KEY) === token) sessionStorage.setItem(KEY, await askForToken(wrong || token !== null));
  }
}

export async function json(path, value) {
  const options = value === undefined ? {} : { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } };
  const answer = await ask(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

// Image files: the id in the journal, or an error.
export async function classify(file) {
  const form = new FormData();
  form.append("file", file, file.name || "image");
  const answer = await ask("/classify?record=true", { method: "POST", body: form });
  const content = await answer.json();
  if (!answer.ok) throw new Error(`${file.name}: ${content.error}`);
  return Number(answer.headers.get("Edge-All-Entry"));
}

// Server-sent events by fetch, for EventSource sends no token.
export async function listen(onEvent, onState) {
  for (;;) {
    try {
      const answer = await ask("/events");
      if (!answer.ok) throw new Error(String(answer.status));
      onState(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (text + value).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const event = /^event: (.*)$/m.exec(block), data = /^data: (.*)$/m.exec(block);
          if (event && data) onEvent(event[1], JSON.parse(data[1]));
        }
      }
    } catch {
      // tried again below
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
