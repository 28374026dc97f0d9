//! The daemon's side: a thread of its own accepts requests and hands them to the main loop.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use hedgerow_probe::support;
use hedgerow_responder::{
    By,
    protected::{gather, users::Present},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore, oneshot},
};

use super::{
    Deny, GetStatus, Reply, Request, log,
    sockets::{Readers, await_room, listen_for_root},
};
use crate::{
    connections::{Connections, PAUSE, http},
    findings::{self, FINDINGS},
    host::LEDGER,
    kubernetes::cgroups::{self, PodCgroup},
    text,
};

/// Requests that wait for the main loop; one more is answered with 503 at once.
const REQUESTS_MAX: usize = 64;
/// A request that the main loop has not begun within this time is refused, and never begun.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// So long an answer to a reader is given to all who ask the same, as an answer is made of everything that the
/// main loop knows: what readers ask it in all is one thing at a time.
const KEPT: Duration = Duration::from_secs(1);

/// All processes are looked at for who runs them within this time.
const PRESENT_MAX: Duration = Duration::from_secs(2);

/// A connection ends within this time: the log of findings is read out in less.
const CONNECTION_MAX: Duration = Duration::from_secs(90);

/// What the clients of a socket may take.
struct Share {
    connections: usize,
    body_bytes: usize,
}

/// Whoever steers says a whole finding, as it stands in the log, and what is to be done about it.
const ROOTS: Share =
    Share { connections: 64, body_bytes: findings::LINE_BYTES_MAX as usize + (4 << 10) };
/// Who only reads says what, in a few words.
const READERS: Share = Share { connections: 32, body_bytes: 4 << 10 };

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
    gathered: Gathered,
    state: Arc<AtomicU8>,
    reply: oneshot::Sender<Reply>,
}

/// What a request needs that the loop has no time to read.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Who ran something when it came, where it is about a user.
    pub present: Option<Present>,
    /// Where pods ran then, where it is about some.
    pub pods: Vec<PodCgroup>,
}

impl Pending {
    /// Takes the request to execute it; `None` where nobody waits for it any more.
    pub fn claim(self) -> Option<Claimed> {
        let (from, to) = (WAITING, CLAIMED);
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).ok()?;
        let Self { request, by, gathered, reply, .. } = self;
        Some(Claimed { request, by, gathered, reply })
    }
}

/// A request that is to be executed, and the way back to who asked.
#[derive(Debug)]
pub struct Claimed {
    pub request: Request,
    pub by: By,
    pub gathered: Gathered,
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
    /// Listens at `path`, in the state directory, and for readers. A socket that is there is of a daemon
    /// that was killed: who starts one holds the directory's lock.
    pub fn listen(path: &Path, readers: Option<Readers>) -> anyhow::Result<Self> {
        Self::listen_for(path, readers, WAIT_MAX)
    }

    fn listen_for(path: &Path, readers: Option<Readers>, wait: Duration) -> anyhow::Result<Self> {
        let path = path.to_owned();
        let roots = listen_for_root(&path)?;
        let listener_of = |readers: &Readers| {
            readers.listen().with_context(|| readers.socket.display().to_string())
        };
        let group = readers.as_ref().map(listener_of).transpose()?;
        let (sender, requests) = bounded(REQUESTS_MAX);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let desk = Desk {
            sender,
            wait,
            state: path.parent().map(Path::to_owned).unwrap_or_default(),
            reading: Arc::new(Semaphore::new(log::READING_MAX)),
            kept: Arc::default(),
            steers: false,
        };
        let thread = thread::Builder::new().name("control".into()).spawn(move || {
            // The sockets have their owners. Had it failed, so would the start.
            drop(support::lower());
            runtime.block_on(async {
                if let Some(group) = group {
                    tokio::spawn(answer(group, desk.clone()));
                }
                let (path, desk) = (path.clone(), Desk { steers: true, ..desk });
                tokio::spawn(async move {
                    let listener = match roots {
                        Some(listener) => listener,
                        None => await_room(&path, text::note).await,
                    };
                    answer(listener, desk).await;
                });
                // Its tasks end with the runtime.
                drop(stopped.await);
            });
            drop(fs::remove_file(&path));
            if let Some(readers) = readers {
                readers.clear();
            }
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

impl Caller {
    fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
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
pub(super) struct Desk {
    sender: Sender<Pending>,
    wait: Duration,
    /// The state directory, for what is read out of it.
    pub(super) state: PathBuf,
    pub(super) reading: Arc<Semaphore>,
    /// What readers were answered lately.
    kept: Arc<Mutex<Vec<Kept>>>,
    /// Behind the socket that only root can open.
    steers: bool,
}

/// An answer to readers.
#[derive(Debug)]
struct Kept {
    request: Request,
    at: Instant,
    json: Bytes,
}

async fn answer(listener: std::os::unix::net::UnixListener, desk: Desk) {
    let share = if desk.steers { ROOTS } else { READERS };
    let router = Router::new()
        .route("/", get(status).post(request))
        .route(&format!("/{FINDINGS}"), get(log::findings))
        .route(&format!("/{LEDGER}"), get(log::decisions))
        .with_state(desk)
        .layer(DefaultBodyLimit::max(share.body_bytes));
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(why) => {
            return text::note(&format!("hedgerow: the control socket failed: {why}"));
        }
    };
    let mut connections = Connections::new(share.connections, CONNECTION_MAX);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let router = router.clone().layer(Extension(Caller::of(&stream)));
        let service = TowerToHyperService::new(router);
        connections.serve(http().serve_connection(TokioIo::new(stream), service)).await;
    }
}

pub(super) fn refused(code: StatusCode, why: &str) -> Response {
    (code, Json(serde_json::json!({ "error": why }))).into_response()
}

async fn status(desk: State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    ask(&desk, caller, GetStatus {}.into()).await
}

async fn request(
    desk: State<Desk>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<Request>,
) -> Response {
    ask(&desk, caller, request).await
}

async fn ask(desk: &Desk, caller: Caller, request: Request) -> Response {
    let Some(by) = caller.0 else {
        return refused(StatusCode::FORBIDDEN, "the kernel doesn't say who asks");
    };
    let steers = desk.steers && by.uid == 0;
    if !steers && !request.only_reads() {
        let why = match by.uid {
            0 => {
                "the daemon is steered by root's own socket, which isn't there: was there no room for it?"
            }
            _ => "only root may steer the daemon; you may read from it",
        };
        return refused(StatusCode::FORBIDDEN, why);
    }
    let answered =
        if steers { steer(desk, by, request).await } else { read(desk, by, request).await };
    answered.map_or_else(
        |refused| refused,
        |json| ([(CONTENT_TYPE, "application/json")], json).into_response(),
    )
}

/// The answer to root, as JSON, or a refusal.
async fn steer(desk: &Desk, by: By, request: Request) -> Result<Bytes, Response> {
    let unavailable = |why: &str| refused(StatusCode::SERVICE_UNAVAILABLE, why);
    let mut gathered = Gathered::default();
    match &request {
        // Whoever logged in a moment ago is not to be locked out; by force he is all the same.
        Request::Deny(Deny { user: Some(_), force: false, .. }) => {
            let read = tokio::task::spawn_blocking(gather::present);
            match tokio::time::timeout(PRESENT_MAX, read).await {
                Ok(Ok(present)) => gathered.present = Some(present),
                _ => {
                    return Err(unavailable(
                        "who is logged in could not be read in time; nothing was done; try again, or by --force",
                    ));
                }
            }
        }
        Request::Deny(Deny { pod, selector, .. }) if pod.is_some() || selector.is_some() => {
            let read = tokio::task::spawn_blocking(cgroups::read);
            match tokio::time::timeout(PRESENT_MAX, read).await {
                Ok(Ok(Ok(pods))) => gathered.pods = pods,
                Ok(Ok(Err(why))) => {
                    return Err(unavailable(&format!("where pods run can't be read: {why}")));
                }
                _ => {
                    return Err(unavailable(
                        "where pods run could not be read in time; nothing was done; try again",
                    ));
                }
            }
        }
        _ => {}
    }
    put(desk, by, request, gathered).await
}

/// The answer to a reader.
async fn read(desk: &Desk, by: By, request: Request) -> Result<Bytes, Response> {
    let begun = Instant::now();
    let busy = || refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy; try again");
    let kept = tokio::time::timeout(desk.wait, Arc::clone(&desk.kept).lock_owned()).await;
    let mut kept = kept.map_err(|_| busy())?;
    kept.retain(|kept| kept.at.elapsed() < KEPT);
    if let Some(known) = kept.iter().find(|kept| kept.request == request) {
        return Ok(known.json.clone());
    }
    let desk = Desk { wait: desk.wait.saturating_sub(begun.elapsed()), ..desk.clone() };
    // A task of its own, which who hangs up doesn't end: the loop would be asked again at once, and each
    // question that nobody waits for any more would take a place until it is met.
    let asked = tokio::spawn(async move {
        let json = put(&desk, by, request.clone(), Gathered::default()).await?;
        kept.push(Kept { request, at: Instant::now(), json: json.clone() });
        Ok(json)
    });
    match asked.await {
        Ok(answer) => answer,
        Err(_) => Err(busy()),
    }
}

/// The main loop's answer.
async fn put(desk: &Desk, by: By, request: Request, gathered: Gathered) -> Result<Bytes, Response> {
    let (reply, answer) = oneshot::channel();
    let state = Arc::new(AtomicU8::new(WAITING));
    let waits = Waits(Arc::clone(&state));
    if desk.sender.try_send(Pending { request, by, gathered, state, reply }).is_err() {
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy; try again"));
    }
    tokio::pin!(answer);
    let answered = match tokio::time::timeout(desk.wait, &mut answer).await {
        Ok(answered) => answered,
        Err(_) if waits.give_up() => {
            let why = "the daemon is busy; the request was not executed, nor will it be; try again";
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, why));
        }
        // It was begun just now.
        Err(_) => answer.await,
    };
    match answered {
        Ok(Ok(value)) => Ok(value.to_string().into()),
        Ok(Err(why)) => Err(refused(StatusCode::UNPROCESSABLE_ENTITY, &why)),
        Err(_) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping")),
    }
}

#[cfg(test)]
mod tests;
