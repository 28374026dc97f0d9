//! What the service manager is told, by its socket: nobody is asked for help, and nothing waits for long.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use hedgerow_detect::Phase;
use sd_notify::NotifyState;

use crate::{control::Status, text};

/// Where the manager listens: a path, or after `@` an abstract name (sd_notify(3)).
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long the loop waits for room in the manager's queue: others may write to it, too.
const WAIT: Duration = Duration::from_millis(50);

/// Tells the service manager, if there is one.
fn tell(state: &[NotifyState<'_>]) {
    // Who doesn't hear it ends the service by itself.
    env::var_os(SOCKET).into_iter().for_each(|socket| drop(send(&socket, state)));
}

/// `sd_notify::notify` waits as long as the queue is full.
fn send(path: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let text: String = state.iter().map(|one| format!("{one}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(WAIT))?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

pub fn is_there() -> bool {
    env::var_os(SOCKET).is_some()
}

/// Everything is attached.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read anew, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The loop turns. Only where the manager waits for it.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// One line of health.
pub fn status(status: &Status) {
    // Who started it waits for `Ready`, which may have found no room; said again it changes nothing.
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

fn line(status: &Status) -> String {
    let what = match status.phase {
        Phase::Scoring => format!("scoring, {}", status.state),
        phase => {
            format!("{}, scores in {}", text::phase(phase), text::seconds(status.seconds_left))
        }
    };
    let refuses = match (status.mode, status.armed) {
        (None, _) => "can't deny".to_owned(),
        (_, Some(false)) => "disarmed".to_owned(),
        (Some(mode), _) => format!("{mode}, {}", text::counted(status.entries, "entry", "entries")),
    };
    let still = match status.stands_still.is_empty() {
        true => String::new(),
        false => format!("; stands still: {}", status.stands_still.join(", ")),
    };
    format!(
        "{what}; {}, {} of {} records lost, {}; {refuses}{still}",
        text::counted(status.programs, "program", "programs"),
        status.lost,
        text::count(status.sent as f64),
        text::counted(status.alerts, "alert", "alerts")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nobody_waits_for_a_manager_that_does_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let ready = || send(path.as_os_str(), &[NotifyState::Ready]);
        let full = std::iter::repeat_with(ready).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "{full}");
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1\n");
        ready().unwrap();
    }
}
