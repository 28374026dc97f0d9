//! Who is who on the host, and who runs something.

use std::{fs, io, path::Path};

use hedgerow_hostfile::{Reader, Refused};

use super::{
    super::users::{Present, Users},
    INIT, processes,
};

/// Largest table of users.
const USERS_BYTES_MAX: u64 = 4 << 20;

/// Who is who: by the host's own files, in init's root directory, since ours may be an image's. One that is
/// missing says nothing; of one that can't be read whole nothing is known.
pub(super) fn users(reader: &mut Reader) -> Option<Users> {
    let mut text = |path: &str| {
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
    };
    let (passwd, defs) = (text("/etc/passwd")?, text("/etc/login.defs")?);
    let subuid = text("/etc/subuid")?;
    Some(Users::read(&passwd, &defs, &subuid, present()))
}

pub(super) fn present() -> Present {
    let login = |pid| fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?.trim().parse().ok();
    let real = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        ids.split_whitespace().next()?.parse().ok()
    };
    Present {
        logged_in: processes().filter_map(login).filter(|uid| *uid != u32::MAX).collect(),
        running: processes().filter_map(real).collect(),
    }
}
