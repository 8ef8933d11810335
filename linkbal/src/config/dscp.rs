//! Names of DSCP values.

/// Returns the DSCP value of a name: class selectors (RFC 2474), assured forwarding (RFC 2597),
/// expedited forwarding (RFC 3246), voice that was admitted (RFC 5865) and lower effort (RFC 8622).
pub fn dscp_named(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'c', b's', class @ b'0'..=b'7'] => Some((class & 0xf) << 3),
        [b'a', b'f', class @ b'1'..=b'4', precedence @ b'1'..=b'3'] => {
            Some((class & 0xf) << 3 | (precedence & 0xf) << 1)
        }
        b"ef" => Some(46),
        b"va" => Some(44),
        b"le" => Some(1),
        _ => None,
    }
}
