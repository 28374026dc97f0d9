//! The daemon's side: a thread of its own accepts requests and hands them to the main loop.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{ConnectInfo, State, connect_info::Connected},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::IncomingStream,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_responder::By;
use tokio::{net::UnixListener, sync::oneshot};

use super::{GetStatus, Reply, Request};

/// Requests that wait for the main loop; one more is answered with 503 at once.
const REQUESTS_MAX: usize = 64;
/// A request that the main loop has not begun within this time is refused, and never begun.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Who may still decide on a request.
const WAITING: u8 = 0;
/// The main loop executes it.
const CLAIMED: u8 = 1;
/// Nobody waits for it any more.
const GIVEN_UP: u8 = 2;

/// Held by who waits for the answer: dropping it, as when the client has gone, gives the request up
/// unless it was begun.
#[derive(Debug)]
struct Waits(Arc<AtomicU8>);

impl Waits {
    /// Whether the request will never be executed from now on.
    fn give_up(&self) -> bool {
        let won = self.0.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
        won.is_ok()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A request that waits for the main loop.
#[derive(Debug)]
pub struct Pending {
    request: Request,
    by: By,
    state: Arc<AtomicU8>,
    reply: oneshot::Sender<Reply>,
}

impl Pending {
    /// Takes the request to execute it; `None` where nobody waits for it any more.
    pub fn claim(self) -> Option<Claimed> {
        self.state
            .compare_exchange(WAITING, CLAIMED, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| Claimed { request: self.request, by: self.by, reply: self.reply })
    }
}

/// A request that is to be executed, and the way back to who asked.
#[derive(Debug)]
pub struct Claimed {
    pub request: Request,
    pub by: By,
    reply: oneshot::Sender<Reply>,
}

impl Claimed {
    /// Answers; a client that has gone meanwhile is no error.
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
        Self::listen_for(path, WAIT_MAX)
    }

    fn listen_for(path: &Path, wait: Duration) -> anyhow::Result<Self> {
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
            runtime.block_on(serve(listener, Desk { sender, wait }, stopped));
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

/// Who is at the other end, as the kernel says: asked when the connection is made, while the client
/// waits for its answer.
#[derive(Debug, Clone)]
struct Caller(Option<By>);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self(credentials.map(|peer| {
            let pid = peer.pid().map_or(0, i32::unsigned_abs);
            By { uid: peer.uid(), pid, login_uid: login_uid(pid) }
        }))
    }
}

/// The audit login uid of a process; `None` where none is set.
pub fn login_uid(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

#[derive(Debug, Clone)]
struct Desk {
    sender: Sender<Pending>,
    wait: Duration,
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    desk: Desk,
    stopped: oneshot::Receiver<()>,
) {
    let router = Router::new().route("/", get(status).post(request)).with_state(desk);
    let router = router.into_make_service_with_connect_info::<Caller>();
    match UnixListener::from_std(listener) {
        Ok(listener) => tokio::select! {
            served = axum::serve(listener, router) => {
                if let Err(why) = served {
                    crate::text::note(&format!("hedgerow: the control socket failed: {why}"));
                }
            }
            _ = stopped => {}
        },
        Err(why) => crate::text::note(&format!("hedgerow: the control socket failed: {why}")),
    }
}

async fn status(desk: State<Desk>, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    ask(&desk, caller, GetStatus {}.into()).await
}

async fn request(
    desk: State<Desk>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<Request>,
) -> Response {
    ask(&desk, caller, request).await
}

async fn ask(desk: &Desk, caller: Caller, request: Request) -> Response {
    let refused = |code: StatusCode, why: &str| {
        (code, Json(serde_json::json!({ "error": why }))).into_response()
    };
    let Some(by) = caller.0 else {
        return refused(StatusCode::FORBIDDEN, "the kernel doesn't say who asks");
    };
    let (reply, answer) = oneshot::channel();
    let state = Arc::new(AtomicU8::new(WAITING));
    let waits = Waits(Arc::clone(&state));
    if desk.sender.try_send(Pending { request, by, state, reply }).is_err() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy; try again");
    }
    tokio::pin!(answer);
    let answered = match tokio::time::timeout(desk.wait, &mut answer).await {
        Ok(answered) => answered,
        Err(_) if waits.give_up() => {
            let why = "the daemon is busy; the request was not executed, nor will it be; try again";
            return refused(StatusCode::SERVICE_UNAVAILABLE, why);
        }
        // It was begun just now.
        Err(_) => answer.await,
    };
    match answered {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(why)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::{
        control::{Arm, Remove, Which, call},
        exit::Failure,
    };

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_request_is_answered_and_a_refusal_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let control = Control::listen(&socket).unwrap();
        let requests = control.requests.clone();
        let daemon = thread::spawn(move || {
            let mut callers = Vec::new();
            for reply in [Ok(serde_json::json!({"armed": true})), Err("no such entry".to_owned())] {
                let claimed = requests.recv().unwrap().claim().unwrap();
                callers.push(claimed.by);
                claimed.answer(reply);
            }
            callers
        });
        assert!(call(&socket, &Arm {}).unwrap().armed);
        let remove = Remove { which: Which::Uid("u".into()), wrong: false };
        assert_eq!(call(&socket, &remove).unwrap_err().to_string(), "no such entry");
        let callers = daemon.join().unwrap();
        // SAFETY: it only reads.
        let uid = unsafe { libc::geteuid() };
        assert!(callers.iter().all(|by| by.uid == uid && by.pid == std::process::id()));
        assert!(Control::listen(&socket).is_err(), "one daemon at a time");
        drop(control);
        assert!(!socket.exists());
        let gone = call(&socket, &Arm {}).unwrap_err();
        assert!(matches!(gone.downcast_ref(), Some(Failure::NoDaemon(_))));
    }

    #[test]
    fn a_request_that_was_refused_for_time_is_never_executed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let control = Control::listen_for(&socket, Duration::from_millis(50)).unwrap();
        // Nobody takes it in time.
        let refused = call(&socket, &Arm {}).unwrap_err();
        assert!(refused.to_string().contains("not executed"), "{refused}");
        let late = control.requests.recv_timeout(PATIENCE).unwrap();
        assert!(late.claim().is_none());
    }

    #[test]
    fn a_request_whose_client_has_gone_is_never_executed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let control = Control::listen_for(&socket, PATIENCE).unwrap();
        let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let body = r#"{"request":"arm"}"#;
        write!(
            client,
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let waiting = control.requests.recv_timeout(PATIENCE).unwrap();
        assert_eq!(waiting.request, Request::Arm(Arm {}));
        drop(client);
        let until = std::time::Instant::now() + PATIENCE;
        while waiting.state.load(Ordering::Acquire) == WAITING {
            assert!(std::time::Instant::now() < until, "it still waits");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(waiting.claim().is_none());
    }
}
