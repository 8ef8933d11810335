//! Numbers of bytes and bits for people.

/// Formats a number of bytes with the binary prefix that fits (IEC 80000-13).
pub fn bytes(bytes: u64) -> String {
    const PREFIXES: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for prefix in PREFIXES {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = prefix;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Formats a rate in bits per second with the decimal prefix that fits.
pub fn bit_rate(bits: u64) -> String {
    const PREFIXES: [&str; 3] = ["kbit/s", "Mbit/s", "Gbit/s"];
    let mut value = bits as f64;
    let mut unit = "bit/s";
    for prefix in PREFIXES {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = prefix;
    }
    if unit == "bit/s" { format!("{bits} bit/s") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_fitting_prefixes() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn rates_have_fitting_prefixes() {
        assert_eq!(bit_rate(0), "0 bit/s");
        assert_eq!(bit_rate(999), "999 bit/s");
        assert_eq!(bit_rate(64_000), "64.0 kbit/s");
        assert_eq!(bit_rate(2_500_000_000), "2.5 Gbit/s");
    }
}
