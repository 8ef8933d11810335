//! The cases of a benchmark that the command line asks for.

/// Returns whether the command line asks for a case: for all, or for those that contain one of its
/// words.
pub(crate) fn is_wanted(case: &str) -> bool {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    words.is_empty() || words.iter().any(|word| case.contains(word.as_str()))
}
