//! The sockets that the daemon listens on.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use super::{GROUP, readers_socket};
use crate::text;

/// Where a socket found no room, it is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// Where members of the group listen.
#[derive(Debug, Clone)]
pub struct Readers {
    pub socket: PathBuf,
    pub group: u32,
}

impl Readers {
    /// Of the daemon with this state directory; `None` where the host has no such group.
    pub fn of(state: &Path) -> Option<Self> {
        let groups = fs::read_to_string("/etc/group").ok()?;
        let group = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == GROUP).then(|| fields.nth(1)?.parse().ok())?
        })?;
        Some(Self { socket: readers_socket(state), group })
    }

    /// A socket that root and the group may open, in a directory that only they can enter.
    pub(super) fn listen(&self) -> anyhow::Result<UnixListener> {
        let directory = self.socket.parent().context("the socket has no directory")?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        chown(directory, Some(0), Some(self.group))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750))?;
        let listener = listen(&self.socket, 0o600)?;
        chown(&self.socket, Some(0), Some(self.group))?;
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    }

    /// Removes the socket and, where nothing else is in it, its directory.
    pub(super) fn clear(&self) {
        drop(fs::remove_file(&self.socket));
        if let Some(directory) = self.socket.parent() {
            drop(fs::remove_dir(directory));
        }
    }
}

/// A socket at `path`; one that a killed daemon left is replaced.
fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    // When it can't be removed, bind says why.
    drop(fs::remove_file(path));
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Root's socket, or nothing yet: whoever has used up the file system keeps root from steering, and not
/// the daemon from its work.
pub(super) fn listen_for_root(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    match listen(path, 0o600) {
        Ok(listener) => Ok(Some(listener)),
        Err(why) if is_full(&why) => {
            text::note(&format!(
                "hedgerow: warning: can't listen on {} ({why}): nobody can steer until there is room",
                path.display()
            ));
            Ok(None)
        }
        Err(why) => Err(why).with_context(|| format!("can't listen on {}", path.display())),
    }
}

/// The same, once there is room; what else is in the way by then is told.
pub(super) async fn await_room(path: &Path, mut tell: impl FnMut(&str)) -> UnixListener {
    let mut told = String::new();
    loop {
        tokio::time::sleep(RETRY).await;
        match listen(path, 0o600) {
            Ok(listener) => {
                tell(&format!("The daemon can be steered by {} by now.", path.display()));
                return listener;
            }
            Err(why) if is_full(&why) || why.to_string() == told => {}
            Err(why) => {
                told = why.to_string();
                tell(&format!(
                    "hedgerow: warning: can't listen on {} ({told}): nobody can steer",
                    path.display()
                ));
            }
        }
    }
}

fn is_full(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_else_is_in_the_way_of_the_socket_is_told_once_each() {
        let directory = tempfile::tempdir().unwrap();
        let (parent, mut told) = (directory.path().join("d"), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        fs::write(&parent, "").unwrap();
        let path = parent.join("s");
        let mut waits = 0;
        runtime.block_on(await_room(&path, |line| {
            waits += 1;
            // Neither a directory, nor there, and then it is.
            match waits {
                1 => fs::remove_file(&parent).unwrap(),
                2 => fs::create_dir(&parent).unwrap(),
                _ => {}
            }
            told.push(line.to_owned());
        }));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("Not a directory") && told[1].contains("No such file"),
            "{told:?}"
        );
        assert!(told[2].contains("can be steered"), "{told:?}");
    }
}
