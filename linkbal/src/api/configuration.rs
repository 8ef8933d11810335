//! The configuration in force, and checks of others.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::State,
    http,
};
use http_body_util::LengthLimitError;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use utoipa::ToSchema;

use super::{
    Request, call,
    error::{ApiError, ErrorCode},
    extract::{Asked, NoQuery},
    status::ConfigurationStatus,
};
use crate::{
    config::{FileOnly, Problem, Sources, difference},
    sys::host::thread,
};

/// Longest text that is checked, in bytes.
pub const MAX_TEXT: usize = 256 << 10;

/// Most problems, and most warnings, that an answer has.
const MAX_PROBLEMS: usize = 100;

/// Checks at a time: each has a thread, and the text.
const MAX_CHECKS: usize = 2;

/// Places for checks.
static CHECKS: Semaphore = Semaphore::const_new(MAX_CHECKS);

/// The configuration in force, as the daemon has it.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The file, and the time since which the configuration is in force.
    pub status: ConfigurationStatus,
    /// The texts.
    pub sources: Arc<Sources>,
    /// The parts that only the file may change.
    pub file_only: FileOnly,
}

/// The configuration in force.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Configuration {
    /// The file, and the time since which the configuration is in force.
    #[serde(flatten)]
    pub status: ConfigurationStatus,
    /// Text that is in force: TOML. The file may have another one by now.
    pub text: String,
    /// Files that the text names, relative to its folder if they are in it.
    pub files: Vec<String>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Checked {
    /// Set if the text can be used.
    pub usable: bool,
    /// Problems for which it cannot be used, in the order of the text, at most 100.
    pub problems: Vec<TextProblem>,
    /// Warnings about a text that can be used, in the order of the text, at most 100.
    pub warnings: Vec<TextProblem>,
    /// Number of problems and warnings that are left out.
    pub left_out: usize,
    /// Lines that differ from the configuration in force, for people.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Reason for which the API does not try a text that can be used; null if it does.
    #[serde(default)]
    pub untried: Option<String>,
}

/// A problem of a text, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct TextProblem {
    /// Line, counted from 1; null if no place is at fault.
    pub line: Option<usize>,
    /// Column in the line, in bytes, counted from 1; null if no place is at fault.
    pub column: Option<usize>,
    /// The file of that place, if the text names it; null for the text itself.
    pub file: Option<String>,
    /// The fault.
    pub message: String,
    /// Advice.
    pub help: String,
}

impl TextProblem {
    fn new(problem: &Problem) -> TextProblem {
        let location = problem.location.as_ref();
        TextProblem {
            line: location.map(|location| location.line),
            column: location.map(|location| location.column),
            file: problem.file().map(str::to_owned),
            message: problem.message.clone(),
            help: problem.help.clone(),
        }
    }
}

/// Checks a text in place of that of the configuration in force. Nothing is read from the disk: of the
/// files that it names, those of the configuration in force are known.
pub fn check(text: &str, in_force: &Sources, file_only: &FileOnly) -> Checked {
    let parsed = in_force.parse_other(text);
    let (problems, warnings): (&[Problem], &[Problem]) = match &parsed {
        Ok((parsed, _)) => (&[], parsed.warnings.problems()),
        Err(error) => (error.problems(), &[]),
    };
    let (changes, untried) = match &parsed {
        Ok((parsed, other)) => (difference(in_force, other), file_only.refusal(&parsed.config)),
        Err(_) => (Vec::new(), None),
    };
    let first = |all: &[Problem]| all.iter().take(MAX_PROBLEMS).map(TextProblem::new).collect();
    let left_out = |all: &[Problem]| all.len().saturating_sub(MAX_PROBLEMS);
    Checked {
        usable: parsed.is_ok(),
        problems: first(problems),
        warnings: first(warnings),
        left_out: left_out(problems).saturating_add(left_out(warnings)),
        changes,
        untried,
    }
}

/// Returns the configuration in force, as text.
#[utoipa::path(
    get, path = "/v1/configuration", tag = "configuration",
    responses((status = 200, description = "The configuration", body = Configuration)),
)]
pub(super) async fn configuration(
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
) -> Result<Json<Configuration>, ApiError> {
    let InForce { status, sources, .. } = call(&daemon, Request::Configuration).await?;
    let names = sources.files.keys().map(|path| path.display().to_string());
    let files = names.collect();
    Ok(Json(Configuration { status, text: sources.text.clone(), files }))
}

/// Checks a configuration, and writes nothing.
///
/// The body is the text, at most 256 KiB. Of the files that it names, only those of the configuration in
/// force are known.
#[utoipa::path(
    post, path = "/v1/configuration/check", operation_id = "check", tag = "configuration",
    request_body(content = String, content_type = "application/toml", description = "The text"),
    responses(
        (status = 200, description = "The problems of the text, if it has any", body = Checked),
        (status = 413, description = "The text is too long"),
    ),
)]
pub(super) async fn check_text(
    _: Asked<NoQuery>,
    State(daemon): State<mpsc::Sender<Request>>,
    request: http::Request<Body>,
) -> Result<Json<Checked>, ApiError> {
    // Before the body is read, which takes memory.
    let permit = permit()?;
    let text = text_of(request.into_body()).await?;
    let InForce { sources, file_only, .. } = call(&daemon, Request::Configuration).await?;
    let checked = thread::run("check", move || {
        let checked = check(&text, &sources, &file_only);
        drop(permit);
        checked
    });
    checked.await.map(Json).map_err(|_| ApiError::no_answer())
}

/// Returns a place for a text.
pub(super) fn permit() -> Result<SemaphorePermit<'static>, ApiError> {
    CHECKS.try_acquire().map_err(|_| {
        ApiError::new(ErrorCode::TooMany, "other texts are being checked").help("try again")
    })
}

/// Reads a text.
pub(super) async fn text_of(body: Body) -> Result<String, ApiError> {
    let bytes = to_bytes(body, MAX_TEXT).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        match cause.is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) {
            true => ApiError::new(ErrorCode::TooLarge, "the text is longer than 256 KiB")
                .help("`linkbal check -c FILE` checks it at the gateway"),
            false => ApiError::new(ErrorCode::Invalid, "the text did not come as a whole"),
        }
        .at("body")
    })?;
    if bytes.is_empty() {
        let nothing = ApiError::new(ErrorCode::Invalid, "no text was sent").at("body");
        return Err(nothing.help("send the configuration as the body"));
    }
    String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ApiError::new(ErrorCode::Invalid, format!("byte {at} of the text is not UTF-8"))
            .at("body")
            .help("send it in UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const TEXT: &str = "[lan]\ninterfaces = [\"lan0\"]\n[uplink.a]\ninterface = \"wan0\"\n";

    fn in_force() -> Sources {
        let files = [("known".into(), "192.0.2.0/24\n".into())].into();
        Sources { name: "linkbal.toml".into(), text: TEXT.into(), files }
    }

    fn file_only() -> FileOnly {
        FileOnly::of(&in_force().parse().expect("it is valid").config)
    }

    fn with_rule(file: &str) -> String {
        format!(
            "{TEXT}[[rule]]\nuse = [\"a\"]\nmatch = {{ destination = {{ file = {file:?} }} }}\n"
        )
    }

    #[test]
    fn problems_have_their_places() {
        let good = check(TEXT, &in_force(), &file_only());
        assert_eq!((good.usable, good.problems.len(), good.left_out), (true, 0, 0));
        let wrong = check(&TEXT.replace("wan0", "wan 0"), &in_force(), &file_only());
        assert!(!wrong.usable);
        let [problem] = &wrong.problems[..] else { panic!("{wrong:?}") };
        assert_eq!((problem.line, problem.column, &problem.file), (Some(4), Some(13), &None));
        assert!(!problem.message.is_empty() && !problem.help.is_empty(), "{problem:?}");
    }

    #[test]
    fn files_that_are_not_in_force_are_not_read() {
        let known = check(&with_rule("known"), &in_force(), &file_only());
        assert!(known.usable, "{known:?}");
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter2\n").expect("written");
        let unknown = check(&with_rule(&secret.display().to_string()), &in_force(), &file_only());
        let [problem] = &unknown.problems[..] else { panic!("{unknown:?}") };
        assert!(problem.message.contains("does not name this file"), "{problem:?}");
    }

    #[test]
    fn what_differs_is_shown_and_what_only_the_file_may_change() {
        let in_force = Sources { files: std::collections::BTreeMap::new(), ..in_force() };
        let same = check(TEXT, &in_force, &file_only());
        assert_eq!((same.changes, same.untried), (vec![], None));
        let other = check(&format!("{TEXT}weight = 5\n"), &in_force, &file_only());
        assert_eq!(other.changes, ["  [uplink.a]", "+ weight = 5"]);
        let hook = format!("{TEXT}[hooks]\non_change = [\"/bin/true\"]\n");
        let hook = check(&hook, &in_force, &file_only());
        assert!(hook.usable && hook.untried.is_some_and(|why| why.contains("[hooks]")));
    }

    #[test]
    fn an_answer_is_bounded_and_soon_there() {
        // As many problems as fit.
        let text = "a=1\n[b]\n".repeat(MAX_TEXT / 8);
        let keys: String = (0..MAX_TEXT / 9).map(|key| format!("k{key:05}=1\n")).collect();
        for text in [text, keys] {
            let began = Instant::now();
            let checked = check(&text, &in_force(), &file_only());
            assert!(!checked.usable);
            let listed = checked.problems.len();
            assert!((1..=MAX_PROBLEMS).contains(&listed), "{listed} problems");
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
            println!("{listed} problems, {} left out: {:?}", checked.left_out, began.elapsed());
        }
    }
}
