// Which uplink a connection takes, and why.

import { $, make, replace } from "./elements.js";
import { isGateway } from "./flows.js";
import { ask } from "./gateway.js";
import { words } from "./words.js";

const NUMBERS = { tcp: 6, udp: 17, icmp: 1, icmpv6: 58, gre: 47, esp: 50, ah: 51, sctp: 132 };

export function prepareExplain() {
  $("#question").addEventListener("submit", (event) => {
    event.preventDefault();
    question(Object.fromEntries(new FormData(event.target)));
  });
}

/// Asks about a flow of the list.
export function explainFlow(flow) {
  const form = $("#question");
  const any = flow.destination.includes(":") ? "::" : "0.0.0.0";
  form.source.value = isGateway(flow.client) ? any : flow.client;
  form.destination.value = flow.destination;
  form.destination_port.value = flow.destination_port ?? "";
  const protocol = NUMBERS[flow.protocol] ?? Number(flow.protocol);
  form.protocol.value = protocol;
  if (form.protocol.value === "") form.protocol.add(new Option(flow.protocol.toUpperCase(), protocol, false, true));
  question({ ...Object.fromEntries(new FormData(form)), source_port: flow.client_port ?? "" });
}

async function question(values) {
  if (isGateway(values.source.trim())) values = { ...values, from_gateway: true };
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => `${value}`.trim() !== ""));
  try {
    show(JSON.parse(await ask(`/v1/explain?${query}`)));
  } catch (error) {
    const text = error.status === 401 ? words("token_needed") : error.message;
    replace($("#answer"), [make("dt", {}, "!"), make("dd", {}, text)]);
  }
}

function show(answer) {
  const lines = [
    ["now", answer.now.text],
    ["if_down", answer.if_down?.text],
    ["if_new", answer.new?.text],
    ...answer.flows.map((flow) => ["live_flow", flow.text]),
    ["tracked", answer.connection && tracked(answer.connection)],
    ...answer.outside.map((text) => ["outside", text]),
  ];
  const shown = lines.filter(([, text]) => text);
  replace($("#answer"), shown.flatMap(([key, text]) => [make("dt", {}, words(key)), make("dd", {}, text)]));
}

function tracked(connection) {
  const port = connection.translated_port == null ? "" : ` port ${connection.translated_port}`;
  return `${connection.translated_source}${port}${connection.uplink ? ` → ${connection.uplink}` : ""}`;
}
