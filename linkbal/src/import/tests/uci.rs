//! The language of OpenWrt.

use super::*;

#[test]
fn sections_of_one_name_are_one() {
    let text = "config interface 'wan'\n option enabled '1'\n list track_ip '8.8.8.8'\n\
                config interface 'wanb'\n option enabled '1'\n\
                config interface 'wan'\n option down '5'\n\
                config member 'm1'\n option interface 'wan'\n\
                config member 'm2'\n option interface 'wanb'\n\
                config member 'm1'\n option weight '4'\n\
                config policy 'b'\n list use_member 'm1'\n list use_member 'm2'\n\
                config rule 'web'\n option proto 'tcp'\n option dest_port '80'\n option use_policy 'b'\n\
                config rule 'web'\n option dest_port '443'\n\
                config rule\n option use_policy 'b'\n";
    let (translated, config) = imported(Tool::Mwan3, text, None);
    assert_eq!(shares(&config), [("wan", 1, 4), ("wanb", 1, 1)]);
    assert_eq!(config.uplinks[0].probe.failure_count, 5);
    assert_eq!(config.rules.len(), 1);
    assert_eq!(config.rules[0].matches.destination_port, [(443, 443)]);
    assert!(!translated.notes.iter().any(|note| note.why == "not understood"), "{translated:#?}");
}
