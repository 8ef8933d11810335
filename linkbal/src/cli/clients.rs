//! `linkbal clients`.

use std::{net::IpAddr, path::Path};

use anyhow::Result;
use clap::Args;
use comfy_table::{Cell, CellAlignment, Table, presets};
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::{
    flow_query::{Bar, Conditions, bytes_hint, read, short_bytes},
    leased::leased_names,
    print as print_text,
};
use crate::{
    api::{
        client,
        flows::{FlowEnding, FlowProgress, FlowSummary},
    },
    flows::{
        clients::{ClientRecord, OthersRecord},
        leases,
        query::FlowQuery,
    },
    sys::resolve,
};

#[derive(Clone, Debug, Args)]
pub(super) struct ClientsArgs {
    #[command(flatten)]
    conditions: Conditions,
    /// Show at most this many clients; the others are summed up
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    top: usize,
    /// Look up clients without a name in a DHCP lease by reverse DNS
    #[arg(long)]
    resolve: bool,
    /// Print one JSON object per line, for programs
    #[arg(long)]
    json: bool,
}

/// A question about clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientQuestion<'a> {
    /// Conditions of their flows.
    pub(super) conditions: &'a Conditions,
    /// Maximum number of clients.
    pub(super) top: usize,
    /// Set if names are looked up by reverse DNS.
    pub(super) resolve: bool,
}

/// Asks the daemon behind a socket for clients, and prints them.
pub(super) async fn run(socket: &Path, args: &ClientsArgs) -> Result<()> {
    let ClientsArgs { conditions, top, resolve, json } = args;
    print(socket, &ClientQuestion { conditions, top: *top, resolve: *resolve }, *json).await
}

/// The last line of an answer.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct LastLine {
    others: OthersRecord,
}

/// An answer, as a whole: it has at most as many lines as were asked for.
#[derive(Debug, Default)]
pub(super) struct ClientAnswer {
    /// The clients, the largest first.
    pub(super) clients: Vec<ClientRecord<'static>>,
    others: Option<OthersRecord>,
    summary: Option<FlowSummary>,
}

/// Asks the daemon behind a socket for clients, whose names it does not know; `bar` shows how far it is.
pub(super) async fn ask(
    socket: &Path,
    question: &ClientQuestion<'_>,
    bar: &Bar,
) -> Result<ClientAnswer> {
    let query =
        FlowQuery { limit: Some(question.top), progress: true, ..question.conditions.query() };
    let mut answer = ClientAnswer::default();
    let path = query.path("/v1/clients");
    client::stream(socket, Method::GET, &path, |line| answer.add(line, bar)).await?;
    Ok(answer)
}

/// Prints the clients that a question asks for.
pub(super) async fn print(socket: &Path, question: &ClientQuestion<'_>, json: bool) -> Result<()> {
    let bar = Bar::new(!json);
    let mut answer = ask(socket, question, &bar).await?;
    bar.end();
    let addresses: Vec<IpAddr> = answer.clients.iter().map(|client| client.client).collect();
    let mut names = leased_names();
    if question.resolve {
        let unknown = addresses.iter().filter(|address| !names.contains_key(address)).copied();
        let found = resolve::reverse(unknown.collect()).await?;
        let found = found.into_iter().filter_map(|(ip, name)| Some((ip, leases::clean(&name)?)));
        names.extend(found);
    }
    for client in &mut answer.clients {
        client.name = names.get(&client.client).cloned();
    }
    print_text(&if json { answer.json()? } else { answer.table() })
}

impl ClientAnswer {
    fn add(&mut self, line: &str, bar: &Bar) -> Result<std::ops::ControlFlow<()>> {
        if line.starts_with("{\"progress\"") {
            let FlowProgress { progress } = read(line)?;
            bar.show(progress);
        } else if line.starts_with("{\"summary\"") {
            let FlowEnding { summary } = read(line)?;
            self.summary = Some(summary);
        } else if line.starts_with("{\"others\"") {
            let LastLine { others } = read(line)?;
            self.others = Some(others);
        } else {
            let client: ClientRecord<'_> = read(line)?;
            let uplinks = client.uplinks.into_iter().map(|name| name.into_owned().into());
            self.clients.push(ClientRecord { uplinks: uplinks.collect(), ..client });
        }
        Ok(std::ops::ControlFlow::Continue(()))
    }

    fn json(&self) -> Result<String> {
        let clients = self.clients.iter().map(serde_json::to_string);
        let others = self.others.map(|others| serde_json::to_string(&LastLine { others }));
        let lines: Vec<String> = clients.chain(others).collect::<Result<_, _>>()?;
        Ok(lines.iter().map(|line| line.to_owned() + "\n").collect())
    }

    fn table(&self) -> String {
        if self.clients.is_empty() {
            return "no client has live flows\n".into();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let header = ["CLIENT", "NAME", "FLOWS", "UP", "DOWN", "UPLINKS"];
        table.set_header(header.iter().enumerate().map(|(at, title)| cell(at, (*title).into())));
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), short_bytes);
        for client in &self.clients {
            let name = client.name.clone().unwrap_or_else(|| "-".into());
            let address = match client.client {
                address if address.is_unspecified() => "gateway".into(),
                address => address.to_string(),
            };
            let (up, down) = (bytes(client.bytes_up), bytes(client.bytes_down));
            let uplinks = client.uplinks.join(", ");
            let row = [address, name, client.flows.to_string(), up, down, uplinks];
            table.add_row(row.into_iter().enumerate().map(|(at, text)| cell(at, text)));
        }
        if let Some(others) = &self.others {
            let (up, down) = (bytes(others.bytes_up), bytes(others.bytes_down));
            let who = format!("{} others", others.clients);
            let row = [who, String::new(), others.flows.to_string(), up, down, String::new()];
            table.add_row(row.into_iter().enumerate().map(|(at, text)| cell(at, text)));
        }
        let text = table.to_string();
        let rows: String = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        let hint = self.summary.map_or("", |summary| bytes_hint(summary.bytes));
        let hint = hint.trim_start_matches("; ");
        if hint.is_empty() { rows } else { format!("{rows}\n{hint}\n") }
    }
}

/// Returns a cell of a column: numbers are at the right.
fn cell(column: usize, text: String) -> Cell {
    let is_number = (2..5).contains(&column);
    let alignment = if is_number { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(text).set_alignment(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_in_a_table_with_the_others_below() {
        let bar = Bar::new(false);
        let mut answer = ClientAnswer::default();
        for line in [
            r#"{"client":"192.0.2.9","flows":12,"uplinks":["isp-a","isp-b"],"bytes_up":2048,"bytes_down":1048576}"#,
            r#"{"client":"2001:db8::7","flows":1,"uplinks":["isp-b"],"bytes_up":null,"bytes_down":null}"#,
            r#"{"progress":1.0}"#,
            r#"{"others":{"clients":3,"flows":4,"bytes_up":0,"bytes_down":9}}"#,
            r#"{"summary":{"flows":17,"shown":13,"bytes":"on"}}"#,
        ] {
            assert!(answer.add(line, &bar).expect("a line").is_continue());
        }
        answer.clients[0].name = Some("laptop".into());
        assert_eq!(
            answer.table(),
            " CLIENT       NAME    FLOWS    UP  DOWN  UPLINKS\n\
             \x20192.0.2.9    laptop     12  2.0K  1.0M  isp-a, isp-b\n\
             \x202001:db8::7  -           1     -     -  isp-b\n\
             \x203 others                 4     0     9\n"
        );
        assert_eq!(answer.json().expect("JSON").lines().count(), 3);
    }
}
