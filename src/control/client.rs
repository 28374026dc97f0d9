//! The command's side.

use std::{path::Path, time::Duration};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::{Ask, Request};
use crate::exit::Failure;

/// The daemon answers within this time, if only that it is busy; one that doesn't is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Sends a request to the daemon that listens on `socket`.
pub fn call<A: Ask>(socket: &Path, asked: &A) -> anyhow::Result<A::Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(ANSWER_MAX, exchange(socket, &asked.clone().into()))
            .await
            .map_err(|_| Failure::NoDaemon("the daemon doesn't answer".into()))?
    })?;
    serde_json::from_value(answer).context("the daemon is of another version: its answer differs")
}

async fn exchange(socket: &Path, request: &Request) -> anyhow::Result<serde_json::Value> {
    let stream = tokio::net::UnixStream::connect(socket).await.map_err(|why| {
        Failure::NoDaemon(match why.kind() {
            std::io::ErrorKind::PermissionDenied => {
                format!("only root may steer the daemon ({})", socket.display())
            }
            _ => format!(
                "no daemon answers on {} ({why}); start one with `hedgerow run`",
                socket.display()
            ),
        })
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let body = Full::new(Bytes::from(serde_json::to_vec(request)?));
    let request = hyper::Request::post("/")
        .header("host", "hedgerow")
        .header("content-type", "application/json")
        .body(body)?;
    let response =
        sender.send_request(request).await.context("the daemon closed the connection")?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    drop(sender);
    drop(connection.await);
    // What is no JSON is the HTTP library's own refusal, as of a request of another version.
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| serde_json::json!({ "error": String::from_utf8_lossy(&bytes) }));
    if status.is_success() {
        return Ok(value);
    }
    let why = value["error"].as_str().unwrap_or("the daemon refused without a reason").to_owned();
    if status == hyper::StatusCode::SERVICE_UNAVAILABLE {
        return Err(Failure::NoDaemon(why).into());
    }
    anyhow::bail!("{why}")
}
