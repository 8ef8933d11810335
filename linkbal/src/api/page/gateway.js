// The API of the gateway: requests, and the stream of events.

let token = sessionStorage.getItem("token") ?? "";

export function setToken(text) {
  token = text;
  sessionStorage.setItem("token", text);
}

export const hasToken = () => token !== "";

function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/// Sends a request; throws an error with the gateway's words if it is refused.
export async function ask(path, method = "GET", body = undefined) {
  const signal = method === "GET" ? AbortSignal.timeout(10_000) : undefined;
  const answer = await fetch(path, { method, body, headers: headers(), signal, cache: "no-store" });
  const text = await answer.text();
  if (answer.ok) return text;
  let said = text.trim();
  try {
    const problem = JSON.parse(text);
    said = [problem.detail, problem.help].filter(Boolean).join(": ");
  } catch {
    // It is plain text.
  }
  throw Object.assign(new Error(said || answer.statusText), { status: answer.status });
}

export const askJson = async (path) => JSON.parse(await ask(path));
export const askLines = async (path) =>
  (await ask(path)).split("\n").filter(Boolean).map((line) => JSON.parse(line));

/// Reads events as they come, without an end; goes on after the last one when the stream breaks.
export async function followEvents(onEvent, onState) {
  let last = "";
  for (let pause = 500; ; pause = Math.min(pause * 2, 10_000)) {
    try {
      const more = last ? { Accept: "text/event-stream", "Last-Event-ID": last } : { Accept: "text/event-stream" };
      const answer = await fetch("/v1/events", { headers: headers(more), cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      onState(true);
      for await (const event of messages(answer.body)) {
        pause = 500;
        last = event.id || last;
        onEvent(event);
      }
    } catch {
      // The gateway is asked again.
    }
    onState(false);
    await new Promise((done) => setTimeout(done, pause));
  }
}

/// Splits a stream into messages (HTML, section 9.2: server-sent events).
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const message = { id: "", type: "message", data: "" };
      for (const line of part.split("\n")) {
        const [, field, text] = line.match(/^([^:]*):? ?(.*)$/);
        if (field === "id") message.id = text;
        if (field === "event") message.type = text;
        if (field === "data") message.data += text;
      }
      if (message.data) yield message;
    }
  }
}
