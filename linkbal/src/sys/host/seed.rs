//! The seed of the hash that two gateways share.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use linkbal_common::hash::Seed;

use super::file::{SMALL, read_text};

/// Reads a seed: 32 hexadecimal digits, as `openssl rand -hex 16` prints them.
///
/// # Errors
///
/// If the file cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Seed> {
    let shown = path.display();
    let text = read_text(path, SMALL)
        .with_context(|| format!("failed to read the seed of the hash in {shown}"))?;
    match parse(text.trim()) {
        Some(seed) => Ok(seed),
        None => bail!(
            "{shown} is no seed of the hash: write 32 hexadecimal digits into it, the same at both \
             gateways, with `openssl rand -hex 16 > {shown}`"
        ),
    }
}

fn parse(text: &str) -> Option<Seed> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (high, low) = text.split_at_checked(16).filter(|_| is_hex)?;
    Some([u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_32_hexadecimal_digits() {
        assert_eq!(parse("000000000000000a0000000000000Bc0"), Some([10, 0xbc0]));
        for other in
            ["", "0a", "000000000000000a0000000000000b0g", "+00000000000000a0000000000000b00"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse("00000000000000ä0000000000000b00"), None);
    }
}
