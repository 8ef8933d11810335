// What the daemon says, in other languages.
//
// Reasons for the state of an uplink, and advice, have codes: TEXTS has the words for each, where {name}
// is an argument, and {name:one|many} a number with the thing that it counts. A test of the daemon finds
// a code or an argument that is not here.
//
// Other texts, and failures of probes inside reasons, have pieces, between "; ", ": " and "), ". The first
// pair with the words of a piece translates it, where {0} stands for anything, and what no pair knows stays
// English. A test finds every text that is not here.

import { currentLanguage, isPortuguese, number } from "./words.js";

const TEXTS = {
  pt: {
    "found-usable": "já funcionava no início",
    "no-answer-yet": "ainda sem resposta",
    "targets-answer": "os alvos respondem",
    "good-rounds": "{rounds:rodada boa|rodadas boas} em {lasted_s}",
    "enabled-at-once": "os alvos respondem, e foi ativado sem tempo de prova",
    "probes-lost": "perdem-se sondas, mas chegam respostas",
    "disabled": "desativado pelo administrador",
    "re-enabled": "reativado pelo administrador, à espera de sondas boas",
    "standby": "de reserva: {lacks}",
    "address-back": "o endereço virtual está aqui",
    "no-targets": "pronto; sem alvos para consultar",
    "no-targets-of-family": "pronto; sem alvos desta família",
    "other-family": "como a outra família: {state}",
    "gateway-not-found": "o gateway {gateway} não é encontrado no enlace, e perdem-se sondas",
    "target-silent": "{rounds:rodada de sondas falhou|rodadas de sondas falharam}: o alvo não respondeu",
    "targets-silent": "{rounds:rodada de sondas falhou|rodadas de sondas falharam}: nenhum de {targets} alvos respondeu (mínimo: {needed})",
    "too-few-answers": "{rounds:rodada de sondas falhou|rodadas de sondas falharam}: {answered} de {targets} alvos responderam (mínimo: {needed})",
    "few-networks": "chegam respostas, mas de poucas redes",
    "excused-long-enough": "chegam respostas, mas só desculpam sondas perdidas por um minuto",
    "target-failed": "{target}: {failure}",
    "drill-blocks": "uma simulação de falha o bloqueia de propósito",
    "drill-blocked": "uma simulação de falha, já terminada, o bloqueou de propósito",
    "limits-exceeded": "{limits}",
    "degraded": "qualidade degradada: {limits}",
    "loss-exceeded": "perda {value} % (limite {limit} %)",
    "latency-exceeded": "latência {value} ms (limite {limit} ms)",
    "jitter-exceeded": "jitter {value} ms (limite {limit} ms)",
    "not-probed": "há {lasted_s}: sem sondagem (mantém o estado), pois esta máquina não consegue: {target}: {failure}",
    "partly-not-probed": "há {lasted_s}: sem sondagem ({not_probed} de {targets} alvos), pois esta máquina não consegue: {target}: {failure}",
    "comes-back-in": "volta em {left_s}",
    "comes-back-at-once": "volta com as primeiras respostas",
    "comes-back-when-well": "volta depois de {hold_s} funcionando bem",
    "went-down": "caiu {times:vez|vezes} em 10 minutos",
    // Probable causes.
    "gateway-silent": "o gateway não responde no enlace: verifique o cabo e o roteador do provedor",
    "internet": "o gateway responde, mas nada depois dele: reinicie o modem ou ligue para o provedor, a não ser que o firewall desta máquina descarte as sondas (`linkbal doctor` diz)",
    "nothing-behind-gateway": "o gateway responde, mas nada depois dele",
    "dns": "só o DNS falha, os pacotes passam: indique outros servidores DNS ou alvos",
    "only-dns": "o DNS responde, mas nada mais: o provedor não deixa passar mais nada",
    "ping": "só os pings falham: indique alvos de outro tipo, como tcp://1.1.1.1:443",
    "captive-portal": "um portal de acesso responde no lugar dos outros: faça o login nele",
    "wrong-answer": "os alvos respondem, mas não como deveriam: verifique-os",
    // Interfaces, addresses and gateways.
    "family-off": "{family} está desligado na configuração",
    "interface-missing": "a interface {interface} não existe",
    "interface-down": "a interface {interface} está desligada",
    "no-carrier": "sem sinal em {interface}",
    "no-address": "sem endereço {family} em {interface}",
    "no-gateway": "sem gateway {family} conhecido em {interface}: nenhuma rota padrão passa por ali, e nenhum está configurado",
    "no-gateway-route-elsewhere": "sem gateway {family} conhecido em {interface}: nenhuma rota padrão passa por ali, e nenhum está configurado; um cliente DHCP que encontra outra rota talvez não crie a sua: dê a cada interface uma métrica própria",
    "no-gateway-nexthop-object": "sem gateway {family} conhecido em {interface}: uma rota padrão só indica um objeto nexthop, que não é lido: defina o sysctl net.ipv4.nexthop_compat_mode = 1, ou configure o gateway",
    "address-gone": "sem endereço {family} em {interface} há {lasted_s}: fluxos novos o evitam; sai do ar em {left_s} se não voltar",
    "route-gone": "sem rota padrão {family} em {interface} há {lasted_s}: fluxos novos o evitam; sai do ar em {left_s} se não voltar",
    // Advice.
    "enable": "`linkbal enable {uplink}` o traz de volta",
    "run": "`{command}`",
    "dial": "verifique o programa que cria {interface} (pppd, openvpn, wg-quick): será usada assim que existir",
    "create-interface": "crie {interface}: será usada assim que existir",
    "plug-in": "conecte o cabo, ou ligue o aparelho da outra ponta",
    "see-to-dhcp": "verifique o cliente DHCP de {interface}, ou o modem: será usada assim que tiver um",
    "see-to-router-advertisements": "verifique os anúncios de roteador em {interface}, ou o cliente DHCP: será usada assim que tiver um",
    "own-firewall": "a causa provável é o firewall desta máquina, não a linha: a cadeia {chains} descarta o que é enviado, ou as respostas",
  },
};

const PAIRS = [
  // States.
  ["up", "ativo"], ["down", "fora do ar"], ["init", "iniciando"], ["admin-down", "desativado"],
  ["ipv4", "IPv4"], ["ipv6", "IPv6"],
  ["standby", "de reserva"],
  ["degraded", "qualidade degradada"],
  ["not probed ({0})", "sem sondagem ({0})"],
  ["it keeps its state", "mantém o estado"],
  ["{0} of {1} targets", "{0} de {1} alvos"],
  ["for this machine cannot", "pois esta máquina não consegue"],
  ["address", "endereço"],
  // Probes.
  ["captive portal", "portal de acesso"],
  ["redirected to {0}", "redirecionado para {0}"],
  ["the page does not contain {0}", "a página não contém {0}"],
  ["status {0} instead of {1}", "status {0} em vez de {1}"],
  ["200 to 299", "200 a 299"],
  ["status 511", "status 511"],
  ["the server answers", "o servidor responde"],
  ["the name does not exist", "o nome não existe"],
  ["failed to resolve {0}", "falha ao resolver {0}"],
  ["no DNS server answers", "nenhum servidor DNS responde"],
  ["no DNS server is known", "nenhum servidor DNS é conhecido"],
  ["asked {0}, which no uplink leads to", "consultado {0}, ao qual nenhum link leva"],
  ["the DNS servers of this machine cannot be read in time", "os servidores DNS desta máquina não puderam ser lidos a tempo"],
  ["write addresses as `resolvers` of [dns]", "escreva endereços em `resolvers` de [dns]"],
  [
    "the clock of this machine says {0}, nothing keeps it right, and the certificate of the server has expired",
    "o relógio desta máquina marca {0}, nada o mantém certo, e o certificado do servidor expirou",
  ],
  [
    "the clock of this machine says {0}, and the certificate of the server is not valid yet",
    "o relógio desta máquina marca {0}, e o certificado do servidor ainda não é válido",
  ],
  [
    "set the clock, or add a target that needs none (an address, tcp://)",
    "acerte o relógio ou adicione um alvo que não dependa dele (um endereço, tcp://)",
  ],
  ["there is no server to ask", "não há servidor a consultar"],
  ["failed to read the name", "falha ao ler o nome"],
  ["failed to send a query", "falha ao enviar uma consulta"],
  ["failed to send a request", "falha ao enviar um pedido"],
  ["failed to send a probe", "falha ao enviar uma sonda"],
  ["failed to forbid fragments", "falha ao proibir fragmentos"],
  ["failed to ask", "falha ao perguntar"],
  ["failed to ask the gateway", "falha ao perguntar ao gateway"],
  ["failed to hear the gateway", "falha ao ouvir o gateway"],
  ["failed to agree on TLS", "falha ao negociar TLS"],
  ["no answer by HTTP", "sem resposta por HTTP"],
  ["failed to read the body", "falha ao ler o conteúdo"],
  ["failed to connect", "falha ao conectar"],
  ["failed to reach {0}", "falha ao alcançar {0}"],
  ["failed to open a socket", "falha ao abrir um socket"],
  ["failed to open a packet socket", "falha ao abrir um socket de pacotes"],
  ["failed to open a probe socket", "falha ao abrir um socket de sondas"],
  ["linkbal needs the capability CAP_NET_RAW", "o linkbal precisa da capacidade CAP_NET_RAW"],
  ["this machine's firewall refuses it ({0})", "o firewall desta máquina recusa ({0})"],
  ["refused by ICMP of {0}", "recusado por ICMP de {0}"],
  ["Connection refused (os error 111)", "conexão recusada"],
  ["No route to host (os error 113)", "sem rota até o destino"],
  ["Network is unreachable (os error 101)", "rede inalcançável"],
  // Kinds of events, and the states in them.
  ["uplink", "link"], ["diagnosis", "diagnóstico"], ["quality", "qualidade"], ["admin", "administração"],
  ["load", "carga"], ["drill", "simulação"], ["bond", "bond"], ["member", "membro"], ["lan", "LAN"],
  ["domain", "domínio"], ["repair", "reparo"], ["conflict", "conflito"], ["trouble", "problema"],
  ["shortcuts", "atalhos"], ["host", "host"], ["notify", "avisos"], ["configuration", "configuração"],
  ["good", "boa"], ["enabled", "ativado"], ["disabled", "desativado"], ["drained", "esvaziando"],
  ["room", "com folga"], ["full", "cheio"], ["off", "desligado"], ["on", "ligado"],
  ["active", "em uso"], ["outside", "fora do bond"], ["missing", "ausente"], ["foreign", "de outro"],
  ["present", "presente"], ["resolved", "resolvido"], ["failing", "falhando"], ["undone", "desfeito"],
  ["repaired", "reparado"], ["none", "nenhum"], ["compatible", "compatível"], ["settled", "resolvido"],
  ["granted", "aceito"], ["refused", "recusado"], ["within", "dentro da sua cota"], ["limited", "limitado"],
  ["working", "funcionando"], ["in-force", "em vigor"], ["on-trial", "em teste"], ["lost", "desfeita"],
  ["last-good", "última boa"],
  ["gateway-silent", "gateway calado"], ["internet", "internet"], ["dns", "DNS"], ["only-dns", "só DNS"],
  ["ping", "ping"], ["captive-portal", "portal de acesso"], ["wrong-answer", "resposta errada"],
  // Their reasons.
  ["the administrator wants it so", "o administrador quer assim"],
  ["{0} % of its capacity are in use", "{0} % da capacidade em uso"],
  ["within its limits", "dentro dos limites"],
  ["nothing passes it for {0}, the administrator wants it so", "nada passa por ele durante {0}, o administrador quer assim"],
  ["its time is over", "o tempo acabou"],
  ["its client disconnected", "o cliente dele desconectou"],
  ["the trial of a configuration is over", "o teste de uma configuração acabou"],
  ["what was translated to the former address is over", "o que era traduzido para o endereço anterior acabou"],
  ["the former address is no longer preferred", "o endereço anterior não é mais o preferido"],
  ["{0} have it", "{0} o têm"],
  [
    "connections of the LAN are kept apart, but what this machine sends by unconnected sockets, or answers from this address, uses the best of them",
    "as conexões da LAN ficam separadas, mas o que esta máquina envia por sockets não conectados, ou responde com este endereço, usa o melhor deles",
  ],
  ["give the router of one of them another network", "dê outra rede ao roteador de um deles"],
  ["it does not exist", "não existe"],
  ["something else has its name", "outra coisa tem o nome dele"],
  ["rename that, or the bond", "mude o nome dela, ou do bond"],
  ["none of its members works", "nenhum dos membros funciona"],
  ["it works", "funciona"],
  ["exists", "existe"],
  ["does not exist", "não existe"],
  ["its flows are not spread", "os fluxos dela não são distribuídos"],
  ["answered", "respondido"],
  ["{0} are off", "{0} desligados"],
  ["{0} are no longer off for this", "{0} não estão mais desligados por isto"],
  ["shortcuts of {0}", "atalhos de {0}"],
  ["begins more than its quota", "inicia mais do que a sua cota"],
  ["{0} flows and {1} sticky sessions within {2} min are stored", "{0} fluxos e {1} sessões fixas em {2} min foram guardados"],
  ["those beyond do not stick, and are not reset at a failover", "os demais não ficam fixos, nem são encerrados quando um link cai"],
  ["within its quota again", "de novo dentro da sua cota"],
  ["they cannot be sent and wait, it is tried again", "não podem ser enviados e esperam, tenta-se de novo"],
  ["they arrive again", "chegam de novo"],
  ["in force, with {0}, after {1} ms", "em vigor, com {0}, após {1} ms"],
  ["1 uplink", "1 link"], ["{0} uplinks", "{0} links"],
  ["to be confirmed within {0}", "a confirmar em {0}"],
  ["confirmed", "confirmada"],
  ["not confirmed in time", "não foi confirmada a tempo"],
  ["the one before is in force again", "a anterior está em vigor de novo"],
  ["refused, the one before stays", "recusada, a anterior continua"],
  ["cannot be used, the last good one, of {0}, is in force", "não pode ser usada, vale a última boa, de {0}"],
  ["an unknown program", "um programa desconhecido"],
  ["an unknown program (the kernel does not say which)", "um programa desconhecido (o kernel não diz qual)"],
  ["undone again and again by {0}", "desfeito repetidamente por {0}"],
  ["undone by {0}", "desfeito por {0}"],
  ["in force again", "em vigor de novo"],
  ["{0} in /etc/systemd/networkd.conf keep it from that", "{0} em /etc/systemd/networkd.conf evitam isso"],
  ["it is put in force every {0} s from now on", "a partir de agora é reposto a cada {0} s"],
  ["stop that program, or take this setting away from it", "pare esse programa, ou tire dele este ajuste"],
  ["left alone again", "deixado em paz"],
  ["gone", "sumiu"],
  ["in force now", "em vigor agora"],
  // Refusals of a drill.
  ["a reload is under way", "uma recarga está em andamento"],
  ["its interface is gone", "a interface dele sumiu"],
  ["a drill takes from 1s to 10m", "uma simulação leva de 1s a 10m"],
  ["choose a time between these", "escolha um tempo entre esses"],
  ["there is a drill of {0} already", "já há uma simulação em {0}"],
  ["{0} is not up", "{0} não está ativo"],
  ["a drill would show nothing", "uma simulação não mostraria nada"],
  ["no other uplink is up for {0}", "nenhum outro link está ativo em {0}"],
  ["users would have none during the drill", "os usuários ficariam sem nenhum durante a simulação"],
  ["`--force` does it all the same", "com `--force` ela é feita assim mesmo"],
  ["{0} is not up for {1}, so that a drill would show {2} alone", "{0} não está ativo em {1}, e uma simulação só mostraria {2}"],
  ["try again when it is up, or `--force` does it all the same", "tente de novo quando estiver ativo, ou com `--force` ela é feita assim mesmo"],
  // What fits many texts.
  ["in {0}", "em {0}"],
  ["{0} and {1}", "{0} e {1}"],
];

/// Returns the words for a reason, by the codes that stand beside it; an older version stored none.
export function reasonOf({ reason, reason_code, reason_args, reason_more }) {
  return reason_code ? coded([{ code: reason_code, args: reason_args }, ...reason_more], reason) : told(reason);
}

/// Returns the words for an advice of an uplink's status; null without one.
export const remedyOf = ({ remedy, remedy_coded }) => (remedy_coded ? coded([remedy_coded], remedy) : remedy);

/// Returns the words for parts with codes, which are `english` together.
function coded(parts, english) {
  const texts = TEXTS[currentLanguage()];
  const isKnown = texts && parts.every(({ code }) => code in texts);
  const join = ({ code }, at) => (at === 0 ? "" : code === "went-down" ? ": " : "; ");
  return spaced(isKnown ? parts.map((part, at) => join(part, at) + filled(part, texts)).join("") : english);
}

function filled({ code, args }, texts) {
  return (texts[code] ?? code).replace(/\{(\w+)(?::([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) => {
    const text = argument(name, args[name], texts);
    return one == null ? text : `${text} ${args[name] === 1 ? one : many}`;
  });
}

/// Returns an argument in words: a time, a number, a name, or other texts with codes.
function argument(name, given, texts) {
  if (Array.isArray(given)) return given.map((part) => filled(part, texts)).join(", ");
  if (given?.code) return filled(given, texts);
  if (name.endsWith("_s")) return duration(given);
  if (typeof given === "number") return number(given, Number.isInteger(given) ? 0 : 1);
  return ["family", "state", "failure"].includes(name) ? told(given) : given;
}

const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/// Returns a time in the two units that matter.
function duration(seconds) {
  if (seconds < 120) return `${number(seconds, Number.isInteger(seconds) ? 0 : 1)} s`;
  const first = UNITS.findIndex(([size]) => seconds >= size);
  const parts = UNITS.slice(first, first + 2).map(([size, unit], at) => {
    const whole = at ? seconds % UNITS[first][0] : seconds;
    return [Math.floor(whole / size), unit];
  });
  const matters = ([count, unit]) => count > 0 && (unit !== "s" || seconds < 600);
  return parts.filter(matters).map((part) => part.join(" ")).join(" ");
}

/// Returns a text whose numbers stay beside their units.
const spaced = (text) => text.replace(/(\d) (?=(?:ms|s|min|h|d|%)(?!\w))/g, "$1\u00a0");

/// Returns the words for a text of the daemon in the language of the page, numbers beside their units.
export function told(text) {
  const parts = isPortuguese() ? text.split(/(; |: |(?<=\)), )/) : [];
  const words = parts.length ? parts.map((part, at) => (at % 2 ? part : piece(part))).join("") : text;
  return spaced(words);
}

const PATTERNS = PAIRS.map(([english, portuguese]) => {
  const plain = english.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  return [new RegExp(`^${plain.replace(/\{\d\}/g, "(.+?)")}$`), portuguese];
});

function piece(text) {
  for (const [pattern, portuguese] of PATTERNS) {
    const found = text.match(pattern);
    if (found) return portuguese.replace(/\{(\d)\}/g, (_, at) => value(found[Number(at) + 1]));
  }
  return text;
}

/// Returns what stands in a text: a number as people write it, or a word that is translated by itself.
function value(text) {
  return /^\d+\.\d+( \D|$)/.test(text) ? text.replace(".", ",") : piece(text);
}
