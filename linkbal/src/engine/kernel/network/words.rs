//! Names in place of numbers, as `ip` shows them.

use std::borrow::Cow;

use super::{Snapshot, TABLE_LOCAL, TABLE_MAIN};

/// The table of default routes that count last (`RT_TABLE_DEFAULT`).
const TABLE_DEFAULT: u32 = 253;

/// Returns the name of a routing table, or its number if it has none.
pub fn table_name(table: u32) -> Cow<'static, str> {
    match table {
        TABLE_DEFAULT => "default".into(),
        TABLE_MAIN => "main".into(),
        TABLE_LOCAL => "local".into(),
        other => other.to_string().into(),
    }
}

impl Snapshot {
    /// Puts names in place of the indexes of devices in a text that has routes, as `dev 3`.
    pub fn with_device_names(&self, text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let before = std::iter::once("").chain(words.iter().copied());
        let named = before.zip(&words).map(|(before, word)| {
            let link = word.parse().ok().and_then(|index: u32| self.links.get(&index));
            link.filter(|_| before == "dev").map_or(*word, |link| link.name.as_str())
        });
        named.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernel::network::Link;

    #[test]
    fn known_devices_and_tables_have_names() {
        let link = Link {
            ifindex: 3,
            name: "wan-a".into(),
            up: true,
            carrier: true,
            point_to_point: false,
            ethernet: true,
            port: false,
            mtu: [0; 2],
        };
        let snapshot = Snapshot { links: [(3, link)].into(), ..Snapshot::default() };
        let text = "route 0.0.0.0/0 via 192.0.2.3 dev 3 table 3 and dev 4";
        let named = "route 0.0.0.0/0 via 192.0.2.3 dev wan-a table 3 and dev 4";
        assert_eq!(snapshot.with_device_names(text), named);
        assert_eq!([253, 254, 255, 3].map(table_name), ["default", "main", "local", "3"]);
    }
}
