//! The page: a client of the API in a browser, as a part of the program.
//!
//! Uses nothing from elsewhere, and its policy lets it use nothing: what a browser runs is what is here.

#[cfg(test)]
mod reasons;

use axum::{
    Router,
    http::{
        HeaderName,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::IntoResponse as _,
    routing::get,
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// The files, by path.
const FILES: [(&str, &str, &str); 15] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", CSS, include_str!("page/style.css")),
    ("/page/icon.svg", IMAGE, include_str!("page/icon.svg")),
    ("/page/main.js", SCRIPT, include_str!("page/main.js")),
    ("/page/configuration.js", SCRIPT, include_str!("page/configuration.js")),
    ("/page/editor.js", SCRIPT, include_str!("page/editor.js")),
    ("/page/elements.js", SCRIPT, include_str!("page/elements.js")),
    ("/page/events.js", SCRIPT, include_str!("page/events.js")),
    ("/page/explain.js", SCRIPT, include_str!("page/explain.js")),
    ("/page/flows.js", SCRIPT, include_str!("page/flows.js")),
    ("/page/gateway.js", SCRIPT, include_str!("page/gateway.js")),
    ("/page/history.js", SCRIPT, include_str!("page/history.js")),
    ("/page/overview.js", SCRIPT, include_str!("page/overview.js")),
    ("/page/reasons.js", SCRIPT, include_str!("page/reasons.js")),
    ("/page/words.js", SCRIPT, include_str!("page/words.js")),
];

/// Limits of what the page may use (Content Security Policy, level 3): itself, and the API that it comes from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns whether a path is that of a file of the page. Nothing in these is secret.
pub(super) fn has(path: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == path)
}

/// Returns the routes of the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || (headers(kind), text).into_response()))
    })
}

const fn headers(kind: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // An upgraded daemon has another page.
        (CACHE_CONTROL, "no-cache"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the keys of an object of words.
    fn keys(object: &str) -> BTreeSet<&str> {
        let mut parts: Vec<&str> = object.split(": \"").collect();
        // Behind the last key.
        parts.pop();
        let key =
            |part: &'_ str| part.trim_end_matches('"').rfind([' ', '"']).map_or(0, |at| at + 1);
        parts.into_iter().map(|part| part[key(part)..].trim_end_matches('"')).collect()
    }

    #[test]
    fn each_word_is_there_in_both_languages() {
        let file = include_str!("page/words.js");
        let (english, rest) = file.split_once("const PORTUGUESE = {").expect("two languages");
        let (portuguese, _) = rest.split_once("};").expect("an end");
        let (english, portuguese) = (keys(english), keys(portuguese));
        assert_eq!(english, portuguese);
        assert!(english.contains("state_admin-down") && english.len() > 100, "{english:?}");
        for (path, _, text) in FILES {
            for (mark, end) in [("data-words=\"", ""), ("words(\"", ""), ("counted(\"", "_one")] {
                let used = text.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
                for key in used {
                    let both = [key, &format!("{key}{end}")];
                    assert!(both.iter().all(|key| english.contains(key)), "{path} uses {both:?}");
                }
            }
        }
    }

    #[test]
    fn the_page_uses_nothing_from_elsewhere() {
        for (path, _, text) in FILES {
            for outside in ["https://", "//cdn", "@import", "eval(", "innerHTML"] {
                assert!(!text.contains(outside), "{path} has {outside}");
            }
            for (at, _) in text.match_indices("/page/") {
                let file = text[at..].split(['"', '\'']).next().unwrap_or_default();
                assert!(has(file), "{path} uses {file}");
            }
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let file = line.split('"').nth(1).unwrap_or_default().replace("./", "/page/");
                assert!(has(&file), "{path} imports {file}");
            }
        }
    }
}
