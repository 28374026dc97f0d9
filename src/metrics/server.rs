//! The thread that answers scrapers. Whoever can connect to loopback is a stranger, and whoever comes
//! first has the port: connections, their time and their requests are bounded, and a taken port
//! holds up nothing but this.

use std::{
    convert::Infallible,
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::oneshot};

use super::{Board, encode};
use crate::{
    connections::{Connections, PAUSE, http},
    text,
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 8;
/// A connection answers one request and ends within this time, read or not.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// A port that somebody else has is asked for this often.
const RETRY: Duration = Duration::from_secs(1);
/// Metrics are told as they were for so long: what it takes to render them counts as what Hedgerow costs,
/// and strangers choose how often they ask.
const KEPT: Duration = Duration::from_secs(1);

/// A listening address; dropping it ends the thread.
#[derive(Debug)]
pub struct Server {
    address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Listens, and answers from now on; where it can't, that is told, and tried again and again: nobody
    /// keeps the daemon from its work by taking a port.
    pub fn start(listen: SocketAddr, board: Arc<Board>) -> anyhow::Result<Self> {
        let bound = bind(listen);
        let address = bound.as_ref().ok().and_then(|listener| listener.local_addr().ok());
        if let Err(why) = &bound {
            text::note(&format!(
                "hedgerow: warning: metrics.listen: can't listen on {listen} ({why}); is another \
                 daemon's there? Metrics are served once it is free"
            ));
        }
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("metrics".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    never = serve(bound, listen, board) => match never {},
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: the kernel chose the port where 0 was asked for. `None` where it can't yet.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve(
    mut bound: io::Result<TcpListener>,
    listen: SocketAddr,
    board: Arc<Board>,
) -> Infallible {
    let listener = loop {
        match bound.and_then(tokio::net::TcpListener::from_std) {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
        bound = bind(listen).inspect(|_| {
            text::note(&format!("Metrics are on http://{listen}/metrics by now."));
        });
    };
    let mut connections = Connections::new(CONNECTIONS_MAX, CONNECTION_MAX);
    let page = Arc::new(Page::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if connections.serve(connection(stream, Arc::clone(&board), Arc::clone(&page))).await {
            board.cut_off.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connection(stream: TcpStream, board: Arc<Board>, page: Arc<Page>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &board, &page);
        async move { Ok::<_, Infallible>(answer) }
    });
    http().serve_connection(TokioIo::new(stream), service).await
}

/// The metrics as they were rendered last.
#[derive(Debug, Default)]
struct Page(Mutex<Option<(Instant, Bytes)>>);

impl Page {
    fn of(&self, board: &Arc<Board>) -> Result<Bytes, fmt::Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = kept.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return Ok(text.clone());
        }
        let text = Bytes::from(encode::text(Arc::clone(board))?);
        *kept = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

fn answer(method: &Method, path: &str, board: &Arc<Board>, page: &Page) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    let told = |told: Result<String, String>| match told {
        Ok(text) => plain(StatusCode::OK, text),
        Err(text) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
    };
    match path {
        "/metrics" => {
            board.scrapes.fetch_add(1, Ordering::Relaxed);
            match page.of(board) {
                Ok(text) => reply(StatusCode::OK, encode::CONTENT_TYPE, text),
                Err(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
            }
        }
        "/healthz" => told(board.health()),
        "/readyz" => told(board.readiness()),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", Bytes::from(text))
}

fn reply(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
