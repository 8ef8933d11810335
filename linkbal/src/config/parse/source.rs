//! Texts that a configuration is read from, so that it can be read again elsewhere.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, ConfigError, Parsed},
    sys::host::file,
};

/// The text of a configuration, and of the files that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Name of the configuration file, without its folder.
    pub name: String,
    /// Text of the configuration file.
    pub text: String,
    /// Texts of the files that it names, by path: relative to its folder if they are in it.
    pub files: BTreeMap<PathBuf, String>,
}

impl Sources {
    /// Reads the configuration file at `path`, and the files that it names.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(path: &Path) -> Result<(Parsed, Sources), ConfigError> {
        let shown = path.display().to_string();
        let bytes = file::read(path, file::LARGE)
            .map_err(|error| ConfigError::unreadable(&shown, &error))?;
        let text =
            String::from_utf8(bytes).map_err(|error| ConfigError::not_utf8(&shown, &error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = RefCell::new(BTreeMap::new());
        // The limit for all of them together; and a disk that does not answer is not tried again.
        let (left, dead) = (Cell::new(file::LARGE), Cell::new(false));
        let read = |named: &Path| {
            if dead.get() {
                return Err(io::Error::other(
                    "not read, since another file could not be read in time",
                ));
            }
            let text = file::read_text(named, left.get()).inspect_err(|error| {
                dead.set(error.kind() == io::ErrorKind::TimedOut);
            })?;
            left.set(left.get().saturating_sub(text.len() as u64));
            let name = named.strip_prefix(folder).unwrap_or(named);
            files.borrow_mut().insert(name.to_owned(), text.clone());
            Ok(text)
        };
        let parsed = Config::parse_of(&text, path, &read, Some(path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((parsed, Sources { name, text, files: files.into_inner() }))
    }

    /// Reads the configuration from these texts.
    ///
    /// # Errors
    /// As [`Config::parse_with`].
    pub fn parse(&self) -> Result<Parsed, ConfigError> {
        let read = |file: &Path| -> io::Result<String> {
            self.files.get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        Config::parse_with(&self.text, Path::new(&self.name), &read)
    }

    /// Reads a configuration from another text, which may name these files alone; returns its own sources,
    /// too. Nothing is read from the disk: problems quote the files, which are not for everybody.
    ///
    /// # Errors
    /// As [`Config::parse_with`].
    pub fn parse_other(&self, text: &str) -> Result<(Parsed, Sources), ConfigError> {
        let files = RefCell::new(BTreeMap::new());
        let read = |file: &Path| -> io::Result<String> {
            let unknown = || io::Error::other("the configuration in force does not name this file");
            let known = self.files.get(file).ok_or_else(unknown)?;
            files.borrow_mut().insert(file.to_owned(), known.clone());
            Ok(known.clone())
        };
        let parsed = Config::parse_with(text, Path::new(&self.name), &read)?;
        let (name, text) = (self.name.clone(), text.to_owned());
        Ok((parsed, Sources { name, text, files: files.into_inner() }))
    }
}
