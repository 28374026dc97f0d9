//! Who is who on the host, and who runs something.

use std::{fs, io, path::Path};

use hedgerow_hostfile::{Reader, Refused, Version};

use super::{
    super::users::{Present, Users},
    INIT, processes,
};

/// Largest table of users.
const USERS_BYTES_MAX: u64 = 4 << 20;

/// Who is who, by the host's own files.
pub(super) fn users(reader: &mut Reader) -> Option<Users> {
    // Of one that can't be read whole nothing is known.
    let mut text = |path| Some(new_text(reader, path, None).ok()??.0);
    let (passwd, defs, subuid) = (text(PASSWD)?, text("/etc/login.defs")?, text("/etc/subuid")?);
    Some(Users::read(&passwd, &defs, &subuid, present()))
}

const PASSWD: &str = "/etc/passwd";

/// The lines of passwd(5), unless they are those that are known.
pub(super) fn passwd(
    reader: &mut Reader,
    known: Option<Version>,
) -> Result<Option<(String, Option<Version>)>, Refused> {
    new_text(reader, PASSWD, known)
}

/// A file of init's root directory, since ours may be an image's; of ours where init's may not be looked at. One
/// that is missing says nothing, and has no version.
fn new_text(
    reader: &mut Reader,
    path: &str,
    known: Option<Version>,
) -> Result<Option<(String, Option<Version>)>, Refused> {
    let read = match reader.read_new(INIT, path, USERS_BYTES_MAX, known) {
        Err(Refused::Io(why)) if why.kind() == io::ErrorKind::PermissionDenied => {
            reader.read_host_new(Path::new(path), USERS_BYTES_MAX, known)
        }
        read => read,
    };
    match read {
        Err(Refused::Io(why)) if why.kind() == io::ErrorKind::NotFound => {
            Ok(Some((String::new(), None)))
        }
        read => Ok(read?
            .map(|(bytes, version)| (String::from_utf8_lossy(&bytes).into_owned(), Some(version)))),
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
