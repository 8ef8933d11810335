//! Parts of a configuration that its file alone may change, not a text that comes by the API.
//!
//! They name programs that run as root, files that root reads, where their secrets are sent, and who may use
//! the API: whoever may try a text must not become root by it, learn a secret, nor keep others out.

use std::path::PathBuf;

use super::{Api, Config, Hooks, Receiver};

/// The parts that only the file may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOnly {
    api: Api,
    hooks: Hooks,
    receivers: Vec<Receiver>,
    hash_seed_file: Option<PathBuf>,
}

impl FileOnly {
    /// Returns those parts of a configuration.
    pub fn of(config: &Config) -> FileOnly {
        let Config { api, hooks, receivers, kernel, .. } = config;
        let hash_seed_file = kernel.hash_seed_file.clone();
        let (api, hooks, receivers) = (api.clone(), hooks.clone(), receivers.clone());
        FileOnly { api, hooks, receivers, hash_seed_file }
    }

    /// Returns why a text with the values `new` may not be tried in place of these; `None` if it may.
    pub fn refusal(&self, new: &Config) -> Option<String> {
        let named = self.changes(new).join(" and ");
        (!named.is_empty()).then(|| {
            format!(
                "{named} can only be changed in the file: edit it at the gateway, and say `linkbal \
                 reload --confirm 60s`"
            )
        })
    }

    fn changes(&self, new: &Config) -> Vec<&'static str> {
        let new = FileOnly::of(new);
        let parts = [
            ("[hooks]", self.hooks == new.hooks),
            ("[api]", self.api == new.api),
            ("[notify]", self.receivers == new.receivers),
            ("hash_seed_file", self.hash_seed_file == new.hash_seed_file),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n";

    fn changes(more: &str) -> Vec<&'static str> {
        let read = |text: &str| Config::parse(text, "x").expect("it is valid");
        FileOnly::of(&read(TEXT)).changes(&read(&format!("{TEXT}{more}")))
    }

    #[test]
    fn what_runs_and_who_may_ask_is_for_the_file() {
        assert!(changes("weight = 5\n[local]\nbalance = true\n").is_empty());
        assert_eq!(changes("[hooks]\non_change = [\"/bin/true\"]\n"), ["[hooks]"]);
        assert_eq!(changes("[api]\ntoken_file = \"/etc/shadow\"\n"), ["[api]"]);
        assert_eq!(changes("[kernel]\nhash_seed_file = \"/etc/shadow\"\n"), ["hash_seed_file"]);
        let receiver =
            "[notify.x]\nurl = \"https://evil.example/\"\ntoken_file = \"/etc/shadow\"\n";
        assert_eq!(changes(receiver), ["[notify]"]);
        let both = "[api]\nhosts = [\"evil.example\"]\n[hooks]\non_change = [\"/bin/true\"]\n";
        assert_eq!(changes(both), ["[hooks]", "[api]"]);
    }
}
