//! Reasons for which a configuration is not in force, for those who may read it and for everybody.
//!
//! A fault of a configuration quotes the file, which may have secrets: everybody is told where it is, and
//! no more. What else stands in the way, such as the kernel, quotes nothing of it.

use anyhow::Error;

use super::rfc3339;
use crate::{api::status::RefusedConfiguration, config::ConfigError};

/// A reason for which a configuration is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRefusal {
    /// The reason for those who may read the file.
    pub text: String,
    /// The reason for everybody.
    pub public: String,
}

/// A configuration that cannot be used, as an error that renders itself over several lines.
#[derive(Debug, thiserror::Error)]
#[error("\n{0}")]
pub(super) struct Unusable(pub(super) ConfigError);

impl ReloadRefusal {
    /// Returns the reason that an error is.
    pub(super) fn of(error: &Error) -> ReloadRefusal {
        let text = format!("{error:#}");
        let public = match error.downcast_ref::<Unusable>() {
            Some(Unusable(error)) => error.public_summary(),
            None => text.clone(),
        };
        ReloadRefusal { text, public }
    }

    /// Returns it as part of the status.
    pub(super) fn into_status(self) -> RefusedConfiguration {
        let since = rfc3339(std::time::SystemTime::now());
        RefusedConfiguration { since, error: self.text.trim().to_owned(), public: self.public }
    }
}

impl From<&ConfigError> for ReloadRefusal {
    /// Returns the first problem of a file, in one line.
    fn from(error: &ConfigError) -> ReloadRefusal {
        ReloadRefusal { text: error.summary(), public: error.public_summary() }
    }
}

impl From<String> for ReloadRefusal {
    /// Returns a reason that quotes nothing of the file.
    fn from(reason: String) -> ReloadRefusal {
        ReloadRefusal { public: reason.clone(), text: reason }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::config::Config;

    const SECRETS: [&str; 5] = [
        "url = \"https:/chat.example/hunter2\"",
        "url = \"https://chat.example/\"\nheaders = { Authorization = \"Bearer hunter2\\u0001\" }",
        "server = \"smtps://user:hunter2@mail.example\"",
        "url = \"https://chat.example/\"\ntoken_file = \"hunter2\"",
        "pasword = \"hunter2\"",
    ];

    #[test]
    fn everybody_learns_where_a_fault_is_and_nothing_of_the_value() {
        for secret in SECRETS {
            let text = format!(
                "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n[notify.team]\n{secret}\n"
            );
            let error = Config::parse(&text, "linkbal.toml").expect_err("it has a fault");
            let at_boot = ReloadRefusal::from(&error);
            assert!(at_boot.public.starts_with("linkbal.toml:"), "{at_boot:?}");
            let error = Err::<(), Error>(Unusable(error).into());
            let at_reload = ReloadRefusal::of(&error.context("reload").expect_err("it is one"));
            for ReloadRefusal { public, .. } in [at_boot, at_reload] {
                assert!(public.contains("`linkbal check` says why"), "{public}");
                assert!(!public.contains("hunter2") && !public.contains('\n'), "{public}");
            }
        }
    }

    #[test]
    fn what_is_no_fault_of_the_text_is_for_everybody() {
        let error = Error::msg("no memory").context("the maps");
        assert_eq!(
            ReloadRefusal::of(&error),
            ReloadRefusal::from("the maps: no memory".to_owned())
        );
        let missing = crate::config::Sources::load(std::path::Path::new("/no/such/file.toml"));
        let public = ReloadRefusal::from(&missing.expect_err("it is missing")).public;
        assert!(public.starts_with("failed to read configuration /no/such/file.toml"), "{public}");
    }
}
