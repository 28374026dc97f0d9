//! The command's side.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Ask, GROUP, readers_socket};
use crate::exit::Failure;

/// The daemon answers within this time, if only that it is busy; one that doesn't is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A log of findings of more bytes is no answer of ours.
const LOG_BYTES_MAX: usize = 512 << 20;

/// Sends a request to the daemon that listens on `socket`, or, where only root may open that or there was
/// no room for it, on the one for readers.
pub fn call<A: Ask>(socket: &Path, asked: &A) -> anyhow::Result<A::Answer> {
    let body = serde_json::to_vec(&asked.clone().into())?;
    let request = hyper::Request::post("/")
        .header("host", "hedgerow")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = value(send(socket, request)?)?;
    serde_json::from_value(answer).context("the daemon is of another version: its answer differs")
}

/// A log of that name as the daemon of this state directory reads it out: a line each.
pub fn log(state: &Path, name: &str) -> anyhow::Result<Bytes> {
    log_of(&super::socket(state), name)
}

pub(super) fn log_of(socket: &Path, name: &str) -> anyhow::Result<Bytes> {
    let request = hyper::Request::get(format!("/{name}"))
        .header("host", "hedgerow")
        .body(Full::new(Bytes::new()))?;
    let (status, bytes) = send(socket, request)?;
    if status.is_success() {
        return Ok(bytes);
    }
    value((status, bytes)).and_then(|_| anyhow::bail!("the daemon refused without a reason"))
}

/// The page of metrics, from where the configuration says that the daemon serves it: at most
/// `bytes_max` bytes, as whoever listens there may be somebody else.
pub fn metrics(address: SocketAddr, bytes_max: usize) -> anyhow::Result<Bytes> {
    let request =
        hyper::Request::get("/metrics").header("host", "hedgerow").body(Full::new(Bytes::new()))?;
    let (status, bytes) = wait(async {
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|why| {
            Failure::NoDaemon(format!("nobody serves metrics on {address} ({why})"))
        })?;
        exchange(stream, request, bytes_max).await
    })?;
    anyhow::ensure!(status.is_success(), "{address} answers with {status}");
    Ok(bytes)
}

type Answer = (hyper::StatusCode, Bytes);

fn send(socket: &Path, request: hyper::Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    wait(async { exchange(connect(socket).await?, request, LOG_BYTES_MAX).await })
}

fn wait(answer: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(ANSWER_MAX, answer)
            .await
            .map_err(|_| Failure::NoDaemon("the daemon doesn't answer".into()))?
    })
}

async fn connect(socket: &Path) -> Result<tokio::net::UnixStream, Failure> {
    let told = |path: &Path, why: &io::Error| match why.kind() {
        ErrorKind::PermissionDenied => Failure::Host(format!(
            "not allowed: only root may steer the daemon, and only root and members of the group \
             {GROUP} may read from it (`usermod -aG {GROUP} NAME`, then log in anew)"
        )),
        _ => Failure::NoDaemon(format!(
            "no daemon answers on {} ({why}); start one with `hedgerow run`",
            path.display()
        )),
    };
    let why = match tokio::net::UnixStream::connect(socket).await {
        Ok(stream) => return Ok(stream),
        Err(why) => why,
    };
    let asks_on = matches!(why.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound);
    let Some(readers) = socket.parent().map(readers_socket).filter(|_| asks_on) else {
        return Err(told(socket, &why));
    };
    match tokio::net::UnixStream::connect(&readers).await {
        Ok(stream) => Ok(stream),
        // Without the group there is no such socket.
        Err(other) if other.kind() == ErrorKind::NotFound => match why.kind() {
            ErrorKind::NotFound => Err(told(socket, &why)),
            _ => Err(Failure::Host(format!(
                "not allowed: only root may ask the daemon of {}, or none runs there; members of the \
                 group {GROUP} may read where {} exists",
                socket.display(),
                readers.display()
            ))),
        },
        Err(other) => Err(told(&readers, &other)),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::Request<Full<Bytes>>,
    bytes_max: usize,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response =
        sender.send_request(request).await.context("the daemon closed the connection")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    let bytes = body.map_err(|why| anyhow::anyhow!("the answer is not whole: {why}"))?.to_bytes();
    drop(sender);
    drop(connection.await);
    Ok((status, bytes))
}

fn value((status, bytes): Answer) -> anyhow::Result<serde_json::Value> {
    // What is no JSON is the HTTP library's own refusal, as of a request of another version.
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| serde_json::json!({ "error": String::from_utf8_lossy(&bytes) }));
    if status.is_success() {
        return Ok(value);
    }
    let why = value["error"].as_str().unwrap_or("the daemon refused without a reason").to_owned();
    Err(match status {
        hyper::StatusCode::SERVICE_UNAVAILABLE => Failure::NoDaemon(why).into(),
        hyper::StatusCode::FORBIDDEN => Failure::Host(why).into(),
        _ => anyhow::anyhow!("{why}"),
    })
}
