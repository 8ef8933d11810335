// Words of the page, and numbers as people read them.

const ENGLISH = {
  skip: "To the content", language: "Language", colours: "Colours", colours_auto: "as the system",
  colours_light: "light", colours_dark: "dark", token: "Token", overview: "Overview", flows: "Flows",
  events: "Events", explain: "Explain", uplink: "Uplink", uplinks: "Uplinks", client: "Client",
  clients: "Clients", destination: "Destination", source: "Source", port: "Port", protocol: "Protocol",
  order: "Order", by_bytes: "most bytes", by_age: "oldest", by_idle: "most silent", show: "Show",
  ask: "Ask", flow_caption: "Live flows", reason: "Reason", age: "Age", bytes: "Bytes", up: "Up",
  down: "Down", cancel: "Cancel", explain_help: "Which uplink a connection takes, and why.",
  live: "live", lost: "no answer from the gateway: it is asked again", all: "all",
  state_up: "up", state_down: "down", state_init: "starting", state_draining: "draining",
  state_drill: "drill", "state_admin-down": "disabled", since: "since {0}", tier: "Tier", latency: "Latency", loss: "Loss",
  jitter: "Jitter", rate: "Traffic", live_flows: "Flows", share: "Share of new flows",
  share_is: "{0} (target {1})", of_capacity: "{0} of the capacity", full: "full: new flows avoid it",
  in_all: "{0} flows", in_all_one: "1 flow", draining: "It takes no new flows; {0} remain.",
  draining_one: "It takes no new flows; 1 remains.", draining_none: "It has no flows any more, and takes no new ones.",
  draining_new: "It takes no new flows.",
  draining_used: "New flows use it all the same: no other uplink is usable.", waits: "standby: tier {0} is in use",
  degraded: "its quality is worse than its limits allow", range: "Charts", hour: "last hour",
  day: "last day", month: "last month", latency_chart: "Latency, up to {0}", traffic_chart: "Traffic, up to {0}",
  no_outages: "No outage.", outages: "{0} outages, {1}", outages_one: "1 outage, {1}", still: "still down",
  drain: "Drain", disable: "Disable", enable: "Enable", drill: "Drill",
  drain_text: "New flows will avoid {0}. Those that it has stay until they end.",
  disable_text: "All flows of {0} will move to other uplinks now. Connections break and begin anew.",
  enable_text: "{0} will be used again once it is known to work.",
  drill_text: "{0} will pass no packets for 15 seconds, to see how soon its flows move. For users it is like a real outage.",
  token_text: "The token is in the file that token_file in the section [api] names. It is kept until this tab is closed.",
  token_needed: "This needs the token of the gateway.", done: "Done: {0}", refused: "Refused: {0}",
  way: "From the LAN to the uplinks", gateway: "gateway", not_installed: "Not in place yet: programs, routes, ip rules or the nft table.",
  last_good: "The last good configuration is in force, since {0} could not be used: {1}",
  refused_file: "The configuration file was refused: {0}", on_trial: "A configuration is on trial: the one before comes back in {0}.",
  confirm: "Keep", undo: "Undo", drill_on: "A drill is under way on {0}.",
  drill_broken: "The drill of {0} broke off.", drill_missed: "The outage was not found out for {0}.", drill_not_up: "{0} is not up again yet.",
  fallback: "New flows use tier {0}, since better ones have no usable uplink.",
  fallback_none: "No uplink is usable for new flows.", lan_missing: "The LAN interface {0} does not exist.",
  limited: "{0} begins more flows than its quota: {1} were not stored.", conflict: "Conflict: {0}", note: "Note: {0}", undone: "{0} is undone again and again by {1}: {2} repairs.",
  kernel_refuses: "The kernel refuses {0}: {1}",
  no_flows: "No live flow.", no_events: "Nothing happened yet.", gap: "Events may be missing here.", summary: "{0} of {1} live flows.",
  not_counted: "-", now: "Now", if_down: "If it goes down", if_new: "If new", tracked: "Tracked",
  outside: "Outside of linkbal", live_flow: "Live flow", ended: "{0} passes packets again.",
  configuration: "Configuration", conf_about: "{0}, in force since {1}", conf_text: "Text (TOML)",
  conf_check: "Check", conf_try: "Try", conf_limit: "Time to confirm", conf_reset: "Start over",
  conf_save: "Download", conf_usable: "The text can be used.", conf_unusable: "The text cannot be used. Problems: {0}.",
  conf_same: "It is what is in force.", left_out: "{0} more are not shown.", left_out_one: "1 more is not shown.", line_column: "Line {0}, column {1}",
  try_text: "The text is put in force for {0}, and nothing is written. Unless you keep it in time, the configuration before comes back.",
  kept: "The configuration is kept.", undid: "The configuration before is in force again.",
};

const PORTUGUESE = {
  skip: "Ir para o conteúdo", language: "Idioma", colours: "Cores", colours_auto: "como o sistema",
  colours_light: "claras", colours_dark: "escuras", token: "Senha", overview: "Visão geral", flows: "Fluxos",
  events: "Eventos", explain: "Explicar", uplink: "Link", uplinks: "Links", client: "Cliente",
  clients: "Clientes", destination: "Destino", source: "Origem", port: "Porta", protocol: "Protocolo",
  order: "Ordem", by_bytes: "mais bytes", by_age: "mais antigos", by_idle: "mais quietos", show: "Mostrar",
  ask: "Perguntar", flow_caption: "Fluxos ativos", reason: "Motivo", age: "Idade", bytes: "Bytes", up: "Envio",
  down: "Recepção", cancel: "Cancelar", explain_help: "Por qual link uma conexão sai, e por quê.",
  live: "ao vivo", lost: "o gateway não responde: nova tentativa em seguida", all: "todos",
  state_up: "ativo", state_down: "fora do ar", state_init: "iniciando", state_draining: "esvaziando",
  state_drill: "simulação", "state_admin-down": "desativado", since: "desde {0}", tier: "Nível", latency: "Latência", loss: "Perda",
  jitter: "Jitter", rate: "Tráfego", live_flows: "Fluxos", share: "Parte dos fluxos novos",
  share_is: "{0} (alvo {1})", of_capacity: "{0} da capacidade", full: "cheio: fluxos novos o evitam",
  in_all: "{0} fluxos", in_all_one: "1 fluxo", draining: "Não recebe fluxos novos; restam {0}.",
  draining_one: "Não recebe fluxos novos; resta 1.", draining_none: "Não tem mais fluxos, e não recebe novos.",
  draining_new: "Não recebe fluxos novos.",
  draining_used: "Fluxos novos o usam assim mesmo: nenhum outro link serve.", waits: "de reserva: o nível {0} está em uso",
  degraded: "a qualidade está abaixo dos limites", range: "Gráficos", hour: "última hora",
  day: "último dia", month: "último mês", latency_chart: "Latência, até {0}", traffic_chart: "Tráfego, até {0}",
  no_outages: "Nenhuma queda.", outages: "{0} quedas, {1}", outages_one: "1 queda, {1}", still: "ainda fora do ar",
  drain: "Esvaziar", disable: "Desativar", enable: "Ativar", drill: "Simular falha",
  drain_text: "Fluxos novos vão evitar {0}. Os que ele tem ficam até terminar.",
  disable_text: "Todos os fluxos de {0} passam agora para outros links. As conexões caem e recomeçam.",
  enable_text: "{0} volta a ser usado assim que se souber que funciona.",
  drill_text: "{0} não passará pacotes por 15 segundos, para ver em quanto tempo os fluxos mudam. Para os usuários é como uma falha real.",
  token_text: "A senha está no arquivo indicado por token_file na seção [api]. Ela fica guardada até esta aba ser fechada.",
  token_needed: "Isto precisa da senha do gateway.", done: "Feito: {0}", refused: "Recusado: {0}",
  way: "Da LAN aos links", gateway: "gateway", not_installed: "Ainda não instalado: programas, rotas, regras ou a tabela nft.",
  last_good: "Vale a última configuração boa, pois {0} não pôde ser usado: {1}",
  refused_file: "O arquivo de configuração foi recusado: {0}", on_trial: "Uma configuração está em teste: a anterior volta em {0}.",
  confirm: "Manter", undo: "Desfazer", drill_on: "Simulação de falha em {0}.",
  drill_broken: "A simulação de falha em {0} foi interrompida.", drill_missed: "A falha não foi percebida em {0}.", drill_not_up: "{0} ainda não voltou.",
  fallback: "Fluxos novos usam o nível {0}: os melhores não têm link utilizável.",
  fallback_none: "Nenhum link serve para fluxos novos.", lan_missing: "A interface {0} da LAN não existe.",
  limited: "{0} abre mais fluxos do que a sua cota: {1} não foram guardados.", conflict: "Conflito: {0}", note: "Nota: {0}", undone: "{0} é desfeito repetidamente por {1}: {2} reparos.",
  kernel_refuses: "O kernel recusa {0}: {1}",
  no_flows: "Nenhum fluxo ativo.", no_events: "Nada aconteceu ainda.", gap: "Podem faltar eventos aqui.", summary: "{0} de {1} fluxos ativos.",
  not_counted: "-", now: "Agora", if_down: "Se ele cair", if_new: "Se for nova", tracked: "Rastreada",
  outside: "Fora do linkbal", live_flow: "Fluxo ativo", ended: "{0} volta a passar pacotes.",
  configuration: "Configuração", conf_about: "{0}, em vigor desde {1}", conf_text: "Texto (TOML)",
  conf_check: "Verificar", conf_try: "Testar", conf_limit: "Tempo para confirmar", conf_reset: "Recomeçar",
  conf_save: "Baixar", conf_usable: "O texto pode ser usado.", conf_unusable: "O texto não pode ser usado. Problemas: {0}.",
  conf_same: "É o que está em vigor.", left_out: "Outros {0} não são mostrados.", left_out_one: "Mais 1 não é mostrado.", line_column: "Linha {0}, coluna {1}",
  try_text: "O texto entra em vigor por {0}, e nada é gravado. Se você não o mantiver a tempo, a configuração anterior volta.",
  kept: "A configuração foi mantida.", undid: "A configuração anterior está em vigor de novo.",
};

const LANGUAGES = { en: ENGLISH, pt: PORTUGUESE };
let language = "en";

export function setLanguage(name) {
  language = name in LANGUAGES ? name : "en";
  document.documentElement.lang = language === "pt" ? "pt-BR" : "en";
  for (const element of document.querySelectorAll("[data-words]")) {
    element.textContent = words(element.dataset.words);
  }
}

export const currentLanguage = () => language;
export const isPortuguese = () => language === "pt";

/// Returns words with a number, which are others for one.
export const counted = (key, count, ...values) => words(count === 1 ? `${key}_one` : key, number(count), ...values);

export function words(key, ...values) {
  const text = LANGUAGES[language][key] ?? key;
  return text.replace(/\{(\d)\}/g, (_, at) => values[at] ?? "");
}

const UNITS = ["", "k", "M", "G", "T"];

function scaled(value, unit) {
  let at = 0;
  while (value >= 1000 && at < UNITS.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${number(value, value < 10 && at > 0 ? 1 : 0)}\u00a0${UNITS[at]}${unit}`;
}

export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const bytes = (value) => scaled(value, "B");
export const rate = (value) => scaled(value, "bit/s");
export const percent = (value) => `${number(value * 100, value > 0 && value < 0.1 ? 1 : 0)}\u00a0%`;
export const millis = (value) => (value == null ? "-" : `${number(value, 1)}\u00a0ms`);
export const time = (text) =>
  new Date(text).toLocaleString(language, { dateStyle: "short", timeStyle: "medium" });

export function span(seconds) {
  if (seconds < 120) return `${seconds}\u00a0s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}\u00a0min`;
  return `${Math.floor(seconds / 3600)}\u00a0h`;
}
