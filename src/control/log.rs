//! Reads the logs of findings and decisions out to who can't open them.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::channel::Channel;

use hedgerow_responder::ledger::Ledger;

use super::server::{Desk, refused};
use crate::{findings, host::LEDGER};

/// Logs that are read out at a time; who comes too many is answered with 503.
pub(super) const READING_MAX: usize = 2;
/// Who reads a log takes no longer than this.
const READ_MAX: Duration = Duration::from_secs(60);
/// What of a log is in memory for each who reads it.
const PIECE_BYTES: usize = 64 << 10;

/// A log's files, the oldest first.
type Files = anyhow::Result<Vec<(PathBuf, File)>>;

pub(super) async fn findings(desk: State<Desk>) -> Response {
    let files = |state: &Path| -> Files {
        let mut files = findings::files(&findings::path(state))?;
        files.reverse();
        Ok(files)
    };
    read_out(&desk, files).await
}

pub(super) async fn decisions(desk: State<Desk>) -> Response {
    read_out(&desk, |state| Ok(Ledger::files(&state.join(LEDGER))?)).await
}

/// Reads a log out as it is, a piece at a time, by a thread of its own: whoever asks reads at his
/// own pace, and must not have the daemon hold it all meanwhile.
async fn read_out(desk: &Desk, files: impl Fn(&Path) -> Files + Send + 'static) -> Response {
    let Ok(one) = Arc::clone(&desk.reading).try_acquire_owned() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "others read the logs; try again");
    };
    let state = desk.state.clone();
    // All are open before any is read: what is rotated meanwhile is read where it was.
    let opened = tokio::task::spawn_blocking(move || files(&state));
    let files = match opened.await {
        Ok(Ok(files)) => files,
        Ok(Err(why)) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &format!("{why:#}")),
        Err(_) => return refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
    };
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        let _one = one;
        let until = tokio::time::Instant::now() + READ_MAX;
        for (_, file) in files {
            let file = Arc::new(file);
            loop {
                let reads = Arc::clone(&file);
                let piece = tokio::task::spawn_blocking(move || piece(&reads)).await;
                let sent = match piece {
                    Ok(Ok(bytes)) if bytes.is_empty() => break,
                    Ok(Ok(bytes)) => sender.send_data(bytes),
                    Ok(Err(why)) => return sender.abort(why),
                    Err(_) => return sender.abort(ErrorKind::Interrupted.into()),
                };
                // Who has gone, or doesn't read, holds up nobody else for longer.
                if !matches!(tokio::time::timeout_at(until, sent).await, Ok(Ok(()))) {
                    return sender.abort(ErrorKind::TimedOut.into());
                }
            }
        }
    });
    Body::new(body).into_response()
}

fn piece(mut file: &File) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; PIECE_BYTES];
    let read = file.read(&mut bytes)?;
    bytes.truncate(read);
    Ok(bytes.into())
}
