//! The command's side.

use std::{path::Path, time::Duration};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;

use super::Request;
use crate::exit::Failure;

/// The daemon answers from its main loop; one that doesn't within this time is stuck.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(10);

/// Sends a request to the daemon that listens on `socket`.
pub fn call(socket: &Path, request: &Request) -> anyhow::Result<serde_json::Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(ANSWER_SECONDS_MAX, exchange(socket, request))
            .await
            .map_err(|_| Failure::NoDaemon("the daemon doesn't answer".into()))?
    })
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
    let success = response.status().is_success();
    let bytes = response.into_body().collect().await?.to_bytes();
    drop(sender);
    drop(connection.await);
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).context("the daemon's answer is not JSON")?;
    if success {
        return Ok(value);
    }
    let why = value["error"].as_str().unwrap_or("the daemon refused without a reason");
    anyhow::bail!("{why}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Control;

    #[test]
    fn a_request_is_answered_and_a_refusal_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let control = Control::listen(&socket).unwrap();
        let requests = control.requests.clone();
        let daemon = std::thread::spawn(move || {
            for reply in [Ok(serde_json::json!({"x": 1})), Err("no such entry".to_owned())] {
                requests.recv().unwrap().answer(reply);
            }
        });
        assert_eq!(call(&socket, &Request::Status).unwrap()["x"], 1);
        let refused =
            call(&socket, &Request::Remove { uid: "u".into(), wrong: false }).unwrap_err();
        assert_eq!(refused.to_string(), "no such entry");
        daemon.join().unwrap();
        assert!(Control::listen(&socket).is_err(), "one daemon at a time");
        drop(control);
        assert!(!socket.exists());
        let gone = call(&socket, &Request::Status).unwrap_err();
        assert!(matches!(gone.downcast_ref(), Some(Failure::NoDaemon(_))));
    }
}
