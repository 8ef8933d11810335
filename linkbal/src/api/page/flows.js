// Live flows and their clients.

import { $, make, replace } from "./elements.js";
import { askLines } from "./gateway.js";
import { bytes, number, span, words } from "./words.js";

const LIMIT = 200;

/// Returns whether a client is the gateway itself: its datagrams are stored without its address.
export const isGateway = (client) => client === "0.0.0.0" || client === "::";

export function prepareFlows(onExplain) {
  $("#flow-filter").addEventListener("submit", (event) => {
    event.preventDefault();
    loadFlows();
  });
  $("#flow-rows").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) onExplain(JSON.parse(button.dataset.flow));
  });
}

export function nameUplinks(names) {
  for (const select of [$("#flow-filter select[name=uplink]"), $("#event-uplink")]) {
    const { value } = select;
    replace(select, [make("option", { value: "" }, words("all")), ...names.map((name) => make("option", { value: name }, name))]);
    select.value = names.includes(value) ? value : "";
  }
}

/// Asks for the flows that satisfy the form, and for their clients.
export async function loadFlows() {
  const query = new URLSearchParams([...new FormData($("#flow-filter"))].filter(([, value]) => value.trim() !== ""));
  query.set("limit", LIMIT);
  query.set("progress", true);
  try {
    const lines = await askLines(`/v1/flows?${query}`);
    const summary = lines.find((line) => line.summary)?.summary;
    const flows = lines.filter((line) => line.client);
    replace($("#flow-rows"), flows.map(row));
    $("#flow-summary").textContent =
      summary?.flows ? words("summary", number(flows.length), number(summary.flows)) : words("no_flows");
    query.delete("progress");
    query.delete("sort");
    query.set("limit", 50);
    const clients = await askLines(`/v1/clients?${query}`);
    replace($("#client-rows"), clients.filter((client) => client.client).map(clientRow));
  } catch (error) {
    replace($("#flow-rows"), []);
    replace($("#client-rows"), []);
    $("#flow-summary").textContent = error.status === 401 ? words("token_needed") : error.message;
  }
}

const end = (address, port) => (port == null ? address : address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`);
const cell = (text) => make("td", {}, text);
const counted = (value) => (value == null ? words("not_counted") : bytes(value));

function row(flow) {
  const reason = [flow.reason, flow.rule && `rule ${flow.rule}`, flow.moved_from && `← ${flow.moved_from}`];
  const total = flow.bytes_up == null ? null : flow.bytes_up + flow.bytes_down;
  const { client, client_port, destination, destination_port, protocol } = flow;
  const from = isGateway(client) ? words("gateway") : end(client, client_port);
  const asked = JSON.stringify({ client, client_port, destination, destination_port, protocol });
  return make(
    "tr", {},
    cell(from), cell(end(destination, destination_port)), cell(protocol), cell(flow.uplink),
    cell(reason.filter(Boolean).join(", ")), cell(span(flow.age_s)), cell(counted(total)),
    make("td", {}, make("button", { type: "button", "data-flow": asked, "aria-label": `${words("explain")} ${from}` }, "?")),
  );
}

function clientRow(client) {
  const address = isGateway(client.client) ? words("gateway") : client.client;
  const name = client.name ? `${client.name} (${address})` : address;
  return make(
    "tr", {}, cell(name), cell(number(client.flows)), cell(counted(client.bytes_up)), cell(counted(client.bytes_down)),
    cell(client.uplinks.join(", ")),
  );
}
