//! The decision which requests by TCP are answered.

use axum::http::{
    HeaderMap, Method,
    header::{AUTHORIZATION, HOST, HeaderName, ORIGIN},
    uri::Authority,
};

use crate::api::{
    error::{ApiError, ErrorCode},
    page,
};

/// Shortest and longest token.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// Paths that every user of this machine may read: nothing there says who talks to whom, or quotes the
/// configuration.
const PUBLIC: [&str; 5] = ["/v1/status", "/metrics", "/v1/events", "/v1/rules", "/v1/history"];

/// Returns whether every user of this machine may send such a request.
pub(in crate::api) fn is_public(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && PUBLIC.contains(&path)
}

/// The secret of those who may change something. What it is never shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Takes a token from the text of a file; `None` if it is no good one.
    pub(super) fn new(text: &str) -> Option<Token> {
        let token = text.trim();
        let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
        (is_plain && LENGTHS.contains(&token.len())).then(|| Token(token.to_owned()))
    }

    /// Returns a token that no request can have.
    pub(super) const fn nobodys() -> Token {
        Token(String::new())
    }

    /// Returns whether a request has it. That takes the same time for all of the same length.
    fn is(&self, offered: &str) -> bool {
        let pairs = self.0.bytes().zip(offered.bytes());
        let difference = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
        !self.0.is_empty() && self.0.len() == offered.len() && difference == 0
    }
}

/// Facts about the listener.
#[derive(Debug)]
pub(super) struct Guard {
    /// Set if only this machine can connect.
    pub(super) local: bool,
    /// The token, if there is to be one.
    pub(super) token: Option<Token>,
    /// Names of this machine beside `localhost`, in lower case.
    pub(super) hosts: Vec<String>,
}

/// The reason for which a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AccessDenied {
    #[error("the request does not say which host it is for")]
    NoHost,
    #[error("this machine is not known as {0}")]
    Host(String),
    #[error("a page of {0} may not use this API")]
    Origin(String),
    #[error("without a token, the API by TCP has {} alone", PUBLIC.join(", "))]
    NoToken,
    #[error("the token of [api] token_file is needed")]
    Token,
}

impl AccessDenied {
    /// Returns the refusal as an error of the API.
    pub(super) fn error(&self) -> ApiError {
        let (code, at, help) = match self {
            AccessDenied::NoHost => (ErrorCode::Forbidden, "header host", "send the header Host"),
            AccessDenied::Host(_) => {
                let help = "use its address, or add the name to `hosts` in [api]";
                (ErrorCode::Forbidden, "header host", help)
            }
            AccessDenied::Origin(_) => {
                (ErrorCode::Forbidden, "header origin", "only its own pages may")
            }
            AccessDenied::NoToken => {
                (ErrorCode::Forbidden, "path", "set `token_file` in [api], or use the socket")
            }
            AccessDenied::Token => {
                let help = "send the header Authorization: Bearer TOKEN";
                (ErrorCode::Token, "header authorization", help)
            }
        };
        ApiError::new(code, self.to_string()).at(at).help(help)
    }
}

impl Guard {
    /// Decides upon a request.
    pub(super) fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), AccessDenied> {
        let host = only(headers, &HOST).ok_or(AccessDenied::NoHost)?;
        if !self.is_this_machine(host) {
            return Err(AccessDenied::Host(host.to_owned()));
        }
        if headers.contains_key(ORIGIN) {
            // Of the page that linkbal itself serves, RFC 6454 section 7, maybe behind a proxy with TLS.
            let origin = only(headers, &ORIGIN).unwrap_or("several origins");
            let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
                return Err(AccessDenied::Origin(origin.to_owned()));
            }
        }
        if page::has(path) {
            return Ok(());
        }
        let reads = is_public(method, path);
        match &self.token {
            _ if reads && self.local => Ok(()),
            None => Err(AccessDenied::NoToken),
            Some(_) if self.has_token(headers) => Ok(()),
            Some(_) => Err(AccessDenied::Token),
        }
    }

    /// Returns whether a request has the token.
    pub(super) fn has_token(&self, headers: &HeaderMap) -> bool {
        self.token.as_ref().is_some_and(|token| token.is(bearer(headers)))
    }

    /// Returns whether a host of a request is an address, which no name can stand for, or a name of
    /// this machine.
    fn is_this_machine(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_ipv6 = bare.is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = |known: &str| known.eq_ignore_ascii_case(name);
        is_ipv6
            || name.parse::<std::net::Ipv4Addr>().is_ok()
            || is_name("localhost")
            || self.hosts.iter().any(|known| is_name(known))
    }
}

/// Returns the value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Returns the token that a request has, RFC 6750 section 2.1; empty without one.
fn bearer(headers: &HeaderMap) -> &str {
    let value = only(headers, &AUTHORIZATION).unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(local: bool, token: Option<&str>) -> Guard {
        let token = token.map(|token| Token::new(token).expect("a token"));
        Guard { local, token, hosts: vec!["gateway.example".into()] }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("text")))
            .collect()
    }

    fn read(guard: &Guard, pairs: &[(HeaderName, &str)]) -> Result<(), AccessDenied> {
        guard.check(&Method::GET, "/v1/status", &headers(pairs))
    }

    #[test]
    fn addresses_and_known_names_are_this_machine() {
        let guard = guard(true, None);
        for host in [
            "127.0.0.1:9480",
            "127.0.0.1",
            "[::1]:9480",
            "localhost:80",
            "GATEWAY.example",
            "192.0.2.1",
        ] {
            assert_eq!(read(&guard, &[(HOST, host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "user@127.0.0.1",
            "::1",
            "[::1",
            "127.0.0.1.nip.io",
        ] {
            assert_eq!(
                read(&guard, &[(HOST, host)]),
                Err(AccessDenied::Host(host.into())),
                "{host}"
            );
        }
        assert_eq!(read(&guard, &[]), Err(AccessDenied::NoHost));
        let mut twice = headers(&[(HOST, "127.0.0.1")]);
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(guard.check(&Method::GET, "/v1/status", &twice), Err(AccessDenied::NoHost));
    }

    #[test]
    fn pages_of_others_are_refused() {
        let guard = guard(true, None);
        let from = |origin| read(&guard, &[(HOST, "localhost:9480"), (ORIGIN, origin)]);
        for origin in ["http://localhost:9480", "https://localhost:9480"] {
            assert_eq!(from(origin), Ok(()), "{origin}");
        }
        for origin in [
            "http://localhost",
            "https://localhost",
            "ftp://localhost:9480",
            "localhost:9480",
            "null",
            "http://evil.example",
            "https://evil.example:9480",
            "https://http://localhost:9480",
        ] {
            assert_eq!(from(origin), Err(AccessDenied::Origin(origin.into())));
        }
    }

    #[test]
    fn changes_need_the_token() {
        let post = |guard: &Guard, token: &str| {
            guard.check(
                &Method::POST,
                "/v1/reload",
                &headers(&[(HOST, "localhost"), (AUTHORIZATION, token)]),
            )
        };
        assert_eq!(
            post(&guard(true, None), &format!("Bearer {TOKEN}")),
            Err(AccessDenied::NoToken)
        );
        let guard = guard(true, Some(TOKEN));
        assert_eq!(post(&guard, &format!("bearer {TOKEN}")), Ok(()));
        for other in ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeX", "Basic 0123456789abcdef"]
        {
            assert_eq!(post(&guard, other), Err(AccessDenied::Token), "{other}");
        }
    }

    #[test]
    fn who_talks_to_whom_is_for_those_with_the_token() {
        let host = headers(&[(HOST, "localhost")]);
        for path in [
            "/v1/flows",
            "/v1/clients",
            "/v1/explain",
            "/v1/configuration",
            "/v1/status/",
            "/status",
            "/page/",
        ] {
            let asked = |guard: &Guard| guard.check(&Method::GET, path, &host);
            assert_eq!(asked(&guard(true, None)), Err(AccessDenied::NoToken), "{path}");
            assert_eq!(asked(&guard(true, Some(TOKEN))), Err(AccessDenied::Token), "{path}");
        }
        // The page has to ask for the token first.
        for path in ["/", "/page/main.js"] {
            let asked = |headers| guard(false, Some(TOKEN)).check(&Method::GET, path, headers);
            assert_eq!(asked(&host), Ok(()), "{path}");
            let refused = asked(&headers(&[(HOST, "evil.example")]));
            assert_eq!(refused, Err(AccessDenied::Host("evil.example".into())), "{path}");
        }
        for path in PUBLIC {
            assert_eq!(guard(true, None).check(&Method::GET, path, &host), Ok(()), "{path}");
        }
    }

    #[test]
    fn other_machines_need_it_to_read() {
        let guard = guard(false, Some(TOKEN));
        let host = (HOST, "192.0.2.1:9480");
        assert_eq!(read(&guard, std::slice::from_ref(&host)), Err(AccessDenied::Token));
        let token = format!("Bearer {TOKEN}");
        assert_eq!(read(&guard, &[host, (AUTHORIZATION, &token)]), Ok(()));
    }

    #[test]
    fn nobody_has_a_token_that_cannot_be_read() {
        assert_eq!(Token::new("short"), None);
        assert_eq!(Token::new("sixteen letters with spaces"), None);
        assert!(Token::new(&format!(" {TOKEN}\n")).is_some());
        assert!(!Token::nobodys().is(""));
    }

    proptest! {
        #[test]
        fn only_the_token_itself_is_the_token(offered in "[ -~]{0,20}") {
            let token = Token::new(TOKEN).expect("a token");
            prop_assert_eq!(token.is(&offered), offered == TOKEN);
        }
    }
}
