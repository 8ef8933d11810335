//! Files with secrets.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use toml::Spanned;

use crate::config::{
    diagnostics::problem::Fault,
    parse::{key::Declared, reader::Section, value},
};

/// Bits of a mode by which all users may read or write.
const ALL_USERS: u32 = 0o006;

/// Returns the file with a secret, if one is named. It may be written later: if it is not there, or
/// not secret, that is only a warning.
pub(super) fn file(
    section: &Section,
    key: &dyn Declared,
    example: &'static str,
) -> Option<Spanned<PathBuf>> {
    let file = section.get(key, value::path(example))?;
    let shown = file.get_ref().display();
    let (problem, help) = match fs::metadata(file.get_ref()) {
        Err(error) => {
            let help =
                format!("write the secret there, and let only root read it: chmod 600 {shown}");
            (format!("{shown} cannot be read: {error}"), help)
        }
        Ok(found) if !found.is_file() => (format!("{shown} is not a file"), "name a file".into()),
        Ok(found) if found.permissions().mode() & ALL_USERS != 0 => {
            (format!("all users may read {shown}"), format!("run `chmod 600 {shown}`"))
        }
        Ok(_) => return Some(file),
    };
    section.warn(key, file.span(), Fault::new(problem, help));
    Some(file)
}
