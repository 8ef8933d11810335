//! Orders of keys, each carried out by a task of its own that says what became of it.

use std::{future::Future, ops::ControlFlow, path::Path};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use tokio::{sync::mpsc, task::JoinHandle};

use super::news::News;
use crate::{
    api::{
        admin::{self, AdminOutcome},
        client,
        drill::{DrillRequest, DrillUpdate},
        explain::FlowQuestion,
    },
    cli::{admin::admin_said, explain},
    engine::admin::AdminState,
};

/// The way to the screen.
type Tell = mpsc::Sender<News>;

/// Orders another administrative state.
pub(super) fn admin(socket: &Path, tell: &Tell, uplink: String, admin: AdminState, now: bool) {
    let socket = socket.to_owned();
    let asked = async move {
        let path = if now { admin::enable_now(&uplink) } else { admin::path(&uplink, admin) };
        let text = client::request(&socket, Method::POST, &path, client::TIMEOUT).await?;
        let outcome: AdminOutcome = client::read(&text)?;
        let warning = outcome.warning.iter().map(|warning| format!("; warning: {warning}"));
        let warning: String = warning.collect();
        Ok(format!("{}{warning}", admin_said(&outcome)))
    };
    say(tell, asked, News::Done);
}

/// Asks what becomes of a flow.
pub(super) fn explain(socket: &Path, tell: &Tell, question: FlowQuestion) {
    let socket = socket.to_owned();
    let asked = async move {
        let path = question.path();
        let text = client::request(&socket, Method::GET, &path, client::TIMEOUT).await?;
        let answer = client::read(&text)?;
        Ok(explain::render(None, &answer, true))
    };
    say(tell, asked, News::Explained);
}

/// Says what an answer is, or why there is none.
fn say(
    tell: &Tell,
    asked: impl Future<Output = Result<String>> + Send + 'static,
    news: fn(Result<String, String>) -> News,
) {
    let tell = tell.clone();
    tokio::spawn(async move {
        let said = asked.await.map_err(|error| format!("{error:#}"));
        // Nobody listens any more at the end.
        let _ = tell.send(news(said)).await;
    });
}

/// Orders a drill, and says what happens. To abort the task ends the drill.
pub(super) fn drill(socket: &Path, tell: &Tell, request: DrillRequest) -> JoinHandle<()> {
    let (socket, tell) = (socket.to_owned(), tell.clone());
    tokio::spawn(async move {
        let ended = watch_drill(&socket, &tell, &request).await;
        if let Err(error) = ended {
            // Nobody listens any more at the end.
            let _ = tell.send(News::DrillFailed(format!("{error:#}"))).await;
        }
    })
}

async fn watch_drill(socket: &Path, tell: &Tell, request: &DrillRequest) -> Result<()> {
    let mut is_done = false;
    let each = |line: &str| {
        let update: DrillUpdate = client::read(line)?;
        is_done = matches!(update, DrillUpdate::Done(_));
        // Updates are few: some for each change of the uplink.
        tell.try_send(News::Drill(update)).context("the screen is too slow")?;
        Ok(if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    client::stream(socket, Method::POST, &request.path(), each).await?;
    ensure!(is_done, "the drill broke off");
    Ok(())
}
