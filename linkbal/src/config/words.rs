//! Words of the configuration that stand for others.

/// Choices for the events of a receiver: kinds of events, and words for many of them.
pub const EVENT_WORDS: [&str; 18] = [
    "all",
    "warning",
    "uplink",
    "quality",
    "admin",
    "load",
    "drill",
    "address",
    "bond",
    "member",
    "lan",
    "domain",
    "repair",
    "conflict",
    "trouble",
    "shortcuts",
    "host",
    "configuration",
];
