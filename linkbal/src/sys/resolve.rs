//! Lookups of the addresses of names at DNS servers, with their TTLs.

use std::{collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use anyhow::Context as _;
use futures::future::join_all;
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, Record, RecordType},
    system_conf::parse_resolv_conf,
};
use tokio::{join, time::timeout};

use super::host::{file, thread};
use crate::engine::{Event, event::Lifetime};

/// File with the DNS servers of the system.
const SYSTEM: &str = "/etc/resolv.conf";

/// Time after which a lookup ends.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of addresses of a name and family that are taken; a reply by TCP has room for
/// thousands, which would drive those of other names out of the datapath's table.
const MAX_ADDRESSES: usize = 128;

/// Time after which a silent server is asked again, within [`TIMEOUT`].
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks up the IPv4 and IPv6 addresses of a name at `servers` or, if there are none, at those of the
/// system: `/etc/resolv.conf` is read each time, since DHCP clients write it anew. `/etc/hosts` is not
/// asked.
pub async fn resolve(name: String, servers: Vec<IpAddr>) -> Event {
    let read = thread::run("resolvers", move || resolvers(&servers)).await;
    let found = match read.flatten() {
        Ok((config, options)) => {
            let asked = asked(&config);
            let found = look_up(&name, config, options).await;
            found.map_err(|reason| format!("{reason} (asked {asked})"))
        }
        Err(error) => Err(format!("failed to read {SYSTEM}: {error:#}")),
    };
    match found {
        Ok(addresses) => Event::Resolved { name, addresses },
        Err(reason) => Event::NotResolved { name, reason },
    }
}

/// Names the servers that a look-up asks.
fn asked(config: &ResolverConfig) -> String {
    let servers: Vec<String> = config.name_servers().iter().map(|it| it.ip.to_string()).collect();
    match &servers[..] {
        [] => format!("no server: {SYSTEM} names none"),
        _ => servers.join(", "),
    }
}

fn resolvers(servers: &[IpAddr]) -> anyhow::Result<(ResolverConfig, ResolverOpts)> {
    if servers.is_empty() {
        return system_conf();
    }
    let servers = servers.iter().copied().map(NameServerConfig::udp_and_tcp).collect();
    Ok((ResolverConfig::from_parts(None, vec![], servers), ResolverOpts::default()))
}

fn system_conf() -> anyhow::Result<(ResolverConfig, ResolverOpts)> {
    Ok(parse_resolv_conf(file::read(Path::new(SYSTEM), file::SMALL)?)?)
}

/// Time within which all reverse lookups must end together.
const REVERSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Looks up the names of addresses as the system does, all at once; those without an answer in time
/// have none. `/etc/hosts` is read, so that this is for programs that may wait.
///
/// # Errors
///
/// If the servers of the system are not known.
pub async fn reverse(addresses: Vec<IpAddr>) -> anyhow::Result<Vec<(IpAddr, String)>> {
    let (config, options) =
        system_conf().context("failed to read the DNS servers of the system")?;
    let resolver = resolver(config, options)?;
    let each = addresses.into_iter().map(|address| {
        let lookup = resolver.reverse_lookup(address);
        async move {
            let found = timeout(REVERSE_TIMEOUT, lookup).await.ok()?.ok()?;
            let name = found.answers().iter().find_map(|record| match &record.data {
                RData::PTR(name) => Some(name.to_string()),
                _ => None,
            })?;
            Some((address, name))
        }
    });
    Ok(join_all(each).await.into_iter().flatten().collect())
}

/// Returns the DNS servers of `/etc/resolv.conf`; none if it cannot be read.
pub fn system_resolvers() -> BTreeSet<IpAddr> {
    let servers = system_conf().map(|(config, _)| config.into_parts().2);
    servers.unwrap_or_default().into_iter().map(|server| server.ip).collect()
}

/// Looks up the addresses of a name; none if the name exists without any.
async fn look_up(
    name: &str,
    config: ResolverConfig,
    mut options: ResolverOpts,
) -> Result<Vec<Lifetime>, String> {
    // It would be read right here, on the thread of the main loop, and its disk may hang.
    options.use_hosts_file = ResolveHosts::Never;
    let resolver = resolver(config, options).map_err(|error| error.to_string())?;
    let (ipv4, ipv6) = join!(
        look_up_family(&resolver, name, RecordType::A),
        look_up_family(&resolver, name, RecordType::AAAA),
    );
    // Half an answer is better than none.
    match (ipv4, ipv6) {
        (Ok(ipv4), Ok(ipv6)) => Ok([ipv4, ipv6].concat()),
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(reason), _) | (_, Err(reason)) => Err(reason),
    }
}

fn resolver(config: ResolverConfig, options: ResolverOpts) -> Result<TokioResolver, NetError> {
    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let mut builder = builder.with_options(options);
    let options = builder.options_mut();
    // A cache would give out the same addresses again when they are about to expire.
    options.cache_size = 0;
    options.timeout = SERVER_TIMEOUT;
    builder.build()
}

async fn look_up_family(
    resolver: &TokioResolver,
    name: &str,
    family: RecordType,
) -> Result<Vec<Lifetime>, String> {
    // Without the dot of the root, the search list of /etc/resolv.conf would be tried as well.
    let name = Name::from_ascii(format!("{name}.")).map_err(|error| error.to_string())?;
    let answer = match timeout(TIMEOUT, resolver.lookup(name, family)).await {
        Ok(answer) => answer,
        Err(_) => return Err("no answer within 5 seconds".into()),
    };
    match answer {
        Ok(found) => Ok(addresses(found.answers())),
        Err(error) if error.is_nx_domain() => Err("the name does not exist".into()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the first addresses among records.
fn addresses(records: &[Record]) -> Vec<Lifetime> {
    let lifetime =
        |record: &Record| Some((record.data.ip_addr()?, Duration::from_secs(record.ttl.into())));
    records.iter().filter_map(lifetime).take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests;
