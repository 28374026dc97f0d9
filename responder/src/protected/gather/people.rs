//! Who is who on the host, and who runs something.

use std::{fs, io, path::Path};

use hedgerow_hostfile::{Reader, Refused};

use super::{
    super::users::{Present, Users},
    INIT, processes,
};

/// Largest table of users.
const USERS_BYTES_MAX: u64 = 4 << 20;

/// Who is who, by the host's own files.
pub(super) fn users(reader: &mut Reader) -> Option<Users> {
    let (passwd, defs) = (passwd(reader)?, text(reader, "/etc/login.defs")?);
    let subuid = text(reader, "/etc/subuid")?;
    Some(Users::read(&passwd, &defs, &subuid, present()))
}

/// The lines of passwd(5).
pub(super) fn passwd(reader: &mut Reader) -> Option<String> {
    text(reader, "/etc/passwd")
}

/// A file of init's root directory, since ours may be an image's; of ours where init's may not be looked at. One
/// that is missing says nothing; of one that can't be read whole nothing is known.
fn text(reader: &mut Reader, path: &str) -> Option<String> {
    let read = match reader.read(INIT, path, USERS_BYTES_MAX) {
        Err(Refused::Io(why)) if why.kind() == io::ErrorKind::PermissionDenied => {
            reader.read_host(Path::new(path), USERS_BYTES_MAX)
        }
        read => read,
    };
    match read {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(Refused::Io(why)) if why.kind() == io::ErrorKind::NotFound => Some(String::new()),
        Err(_) => None,
    }
}

pub(super) fn present() -> Present {
    let login = |pid| -> Option<u32> {
        fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?.trim().parse().ok()
    };
    let real = |pid| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        ids.split_whitespace().next()?.parse().ok()
    };
    let mut present = Present::default();
    for pid in processes() {
        present.logged_in.extend(login(pid).filter(|uid| *uid != u32::MAX));
        present.running.extend(real(pid));
    }
    present
}
