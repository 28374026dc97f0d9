//! The thread that answers scrapers. Whoever can connect to loopback is a stranger: connections,
//! their time and their requests are bounded.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
};

use super::{Board, encode};

/// Connections at once; one more is closed at once, and counted.
const CONNECTIONS_MAX: usize = 8;
/// A request line with its headers is no longer than this.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// And comes within this time.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// A connection answers one request and ends within this time, read or not.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// After the machine had no more descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening address; dropping it ends the thread.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Listens, and answers from now on.
    pub fn start(listen: SocketAddr, board: Arc<Board>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| {
            format!("metrics.listen: can't listen on {listen}; is another daemon's there?")
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("metrics".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    why = serve(listener, board) => {
                        crate::text::note(&format!("hedgerow: metrics are not served: {why}"));
                    }
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: the kernel chose the port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
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

async fn serve(listener: TcpListener, board: Arc<Board>) -> std::io::Error {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(why) => return why,
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            board.turned_away.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            // Past its time a connection is cut; what became of it concerns its client alone.
            let _ = tokio::time::timeout(CONNECTION_MAX, connection(stream, board)).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, board: Arc<Board>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &board);
        async move { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(method: &Method, path: &str, board: &Arc<Board>) -> Response<Full<Bytes>> {
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
            match encode::text(Arc::clone(board)) {
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
    reply(status, "text/plain; charset=utf-8", text)
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
