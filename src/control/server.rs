//! The daemon's side: a thread of its own accepts requests and hands them to the main loop.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path, thread};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use super::{Reply, Request};

/// Requests that wait for the main loop; one more is answered with 503 at once.
const REQUESTS_MAX: usize = 64;

/// A request and the way back to who asked.
#[derive(Debug)]
pub struct Pending {
    pub request: Request,
    reply: oneshot::Sender<Reply>,
}

impl Pending {
    /// Answers; a client that has gone is no error.
    pub fn answer(self, reply: Reply) {
        drop(self.reply.send(reply));
    }
}

/// A listening socket; dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct Control {
    pub requests: Receiver<Pending>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Control {
    /// Listens at `path`. A socket that another daemon answers on is an error, a dead one is
    /// replaced.
    pub fn listen(path: &Path) -> anyhow::Result<Self> {
        let path = path.to_owned();
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            anyhow::bail!("another hedgerow daemon is running (it answers on {})", path.display());
        }
        // A socket left by a killed daemon; when it can't be removed, bind says why.
        drop(fs::remove_file(&path));
        let listener = std::os::unix::net::UnixListener::bind(&path)
            .with_context(|| format!("can't listen on {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let (sender, requests) = bounded(REQUESTS_MAX);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(serve(listener, sender, stopped));
            drop(fs::remove_file(&path));
        })?;
        Ok(Self { requests, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The server may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    sender: Sender<Pending>,
    stopped: oneshot::Receiver<()>,
) {
    let router = Router::new().route("/", get(status).post(request)).with_state(sender);
    match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => tokio::select! {
            served = axum::serve(listener, router) => {
                if let Err(why) = served {
                    tell(&why);
                }
            }
            _ = stopped => {}
        },
        Err(why) => tell(&why),
    }
}

fn tell(why: &std::io::Error) {
    // Standard error may have been closed.
    drop(writeln!(std::io::stderr(), "hedgerow: the control socket failed: {why}"));
}

async fn status(sender: State<Sender<Pending>>) -> Response {
    ask(&sender, Request::Status).await
}

async fn request(sender: State<Sender<Pending>>, Json(request): Json<Request>) -> Response {
    ask(&sender, request).await
}

async fn ask(sender: &Sender<Pending>, request: Request) -> Response {
    let (reply, answer) = oneshot::channel();
    let refused = |code: StatusCode, why: &str| {
        (code, Json(serde_json::json!({ "error": why }))).into_response()
    };
    if sender.try_send(Pending { request, reply }).is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy; try again");
    }
    match answer.await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(why)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
    }
}
