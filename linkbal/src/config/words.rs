//! Words of the configuration that stand for others.

/// What a receiver can be told of: kinds of events, and words for many of them.
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
