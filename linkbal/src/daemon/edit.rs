//! Texts that come by the API: nothing is written before they are confirmed.

use std::{path::PathBuf, sync::mpsc, time::Duration};

use anyhow::{Context as _, Error, Result};

use crate::{
    api::admin::RequestError,
    sys::host::{
        file::{self, exchange},
        thread,
    },
};

/// Longest time that the disk may take for the file.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Advice where the file cannot be written.
const HELP: &str = "put the text into the file yourself and say `linkbal reload`, or let linkbal write: \
                    `systemctl edit linkbal` with ReadWritePaths=/etc/linkbal";

/// A text in place of that of the configuration file.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// The file.
    pub(super) path: PathBuf,
    /// Text that it has.
    pub(super) former: String,
    /// Text that it is to have.
    pub(super) text: String,
}

/// A state of the file that is in the way of a text by the API.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Obstacle(String);

/// Returns the refusal of a text.
pub(super) fn refusal(error: &Error) -> RequestError {
    let refused = format!("the text is refused, nothing has changed: {error:#}");
    match error.downcast_ref::<Obstacle>() {
        Some(Obstacle(obstacle)) => RequestError::NotPossible(obstacle.clone()),
        None => RequestError::Unusable(refused),
    }
}

impl Edit {
    /// Checks that the file has what is in force: what others wrote into it must not get lost.
    pub(super) fn check_file(&self) -> Result<()> {
        let shown = self.path.display();
        let found = file::read_text(&self.path, file::LARGE)
            .map_err(|error| Obstacle(format!("{shown} cannot be read: {error}")))?;
        if found == self.former {
            return Ok(());
        }
        let text = format!(
            "{shown} has another text than what is in force, which must not get lost: say `linkbal \
             reload`, or put the file right, and begin with what is in force then"
        );
        Err(Obstacle(text).into())
    }

    /// Returns why the file could not be written, as far as that is known before; `None` if it could.
    pub(super) fn unwritable(&self) -> Option<String> {
        let error = exchange::check(&self.path).err()?;
        Some(format!("{} cannot be written: {error:#}: {HELP}", self.path.display()))
    }

    /// Writes the text to the file, unless that has changed meanwhile; it may have the text already.
    pub(super) fn write(self) -> Result<()> {
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            // The receiver may have given up.
            let _ = sender.send(self.write_now());
        };
        // A disk that hangs must not keep the former configuration from coming back.
        thread::start("write", work)?;
        receiver
            .recv_timeout(DISK_TIMEOUT)
            .map_err(|_| Error::msg("the disk does not answer: look what the file has"))?
    }

    fn write_now(&self) -> Result<()> {
        let found = file::read_text(&self.path, file::LARGE).unwrap_or_default();
        if found == self.text {
            return Ok(());
        }
        let shown = self.path.display();
        if found != self.former {
            anyhow::bail!(
                "{shown} was changed by others meanwhile, the trial goes on: `linkbal reload` takes the \
                 file as it is"
            );
        }
        exchange::exchange(&self.path, self.text.as_bytes())
            .with_context(|| format!("{shown} cannot be written, the trial goes on: {HELP}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn edit(folder: &tempfile::TempDir) -> Edit {
        let path = folder.path().join("linkbal.toml");
        fs::write(&path, "former").expect("written");
        Edit { path, former: "former".into(), text: "text".into() }
    }

    #[test]
    fn what_others_wrote_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let edit = edit(&folder);
        edit.check_file().expect("it is as it was");
        fs::write(&edit.path, "another").expect("written");
        let obstacle = edit.check_file().expect_err("it has changed");
        assert!(matches!(refusal(&obstacle), RequestError::NotPossible(_)), "{obstacle}");
        let error = edit.clone().write().expect_err("it has changed");
        assert!(error.to_string().contains("changed by others"), "{error}");
        assert_eq!(fs::read_to_string(&edit.path).expect("read"), "another");
    }

    #[test]
    fn a_text_that_is_there_already_needs_no_writing() {
        let folder = tempfile::tempdir().expect("a folder");
        let edit = edit(&folder);
        edit.clone().write().expect("written");
        assert_eq!(fs::read_to_string(&edit.path).expect("read"), "text");
        edit.write().expect("it is there");
    }
}
