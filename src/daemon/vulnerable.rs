//! What is known to be vulnerable of programs, as `hedgerow exposure --remember` left it: put beside findings,
//! and nothing is decided by it.

use std::{
    fs::{self, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use hedgerow_event::{Finding, KnownVulnerability};
use hedgerow_exposure::known::{FILE, FILE_BYTES_MAX, Known};

/// Read by the loop, renewed by the thread that reads the file.
pub type Shared = Arc<Mutex<Arc<Known>>>;

/// What is known of the programs of a finding.
pub fn of(shared: &Shared, finding: &Finding) -> Vec<KnownVulnerability> {
    let known = Arc::clone(&*shared.lock().unwrap_or_else(PoisonError::into_inner));
    let objects = finding.objects.iter().map(|object| &**object.subject());
    known.of(std::iter::once(&*finding.subject).chain(objects))
}

/// The reader's end.
pub struct Vulnerable {
    path: PathBuf,
    shared: Shared,
    /// Which file was read last: device, inode, size, time of its change.
    read: Option<(u64, u64, u64, (i64, i64))>,
}

impl Vulnerable {
    pub fn new(state: &Path, shared: Shared) -> Self {
        Self { path: state.join(FILE), shared, read: None }
    }

    /// Reads the file where it is another one than before; what an operator should hear of it.
    pub fn look(&mut self) -> Option<String> {
        let of = |found: fs::Metadata| {
            (found.dev(), found.ino(), found.len(), (found.ctime(), found.ctime_nsec()))
        };
        let file = fs::symlink_metadata(&self.path).ok().map(of);
        if file == self.read {
            return None;
        }
        self.read = file;
        let (known, said) = match file.map(|_| read(&self.path)) {
            None => (Known::default(), None),
            Some(Ok(known)) => (known, None),
            Some(Err(why)) => {
                let path = self.path.display();
                let said =
                    format!("{path} can't be read ({why}): findings name no vulnerabilities");
                (Known::default(), Some(said))
            }
        };
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = known.into();
        said
    }
}

fn read(path: &Path) -> Result<Known, String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|why| why.to_string())?;
    let found = file.metadata().map_err(|why| why.to_string())?;
    // SAFETY: asks for a number.
    let own = unsafe { libc::geteuid() };
    if !found.is_file() || found.uid() != own {
        return Err("it is no file of the daemon's own user".into());
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|why| why.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Known::parse(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hedgerow_event::{Object, Subject};

    use super::*;
    use crate::daemon::replace;

    /// The file is root's own, and still nothing but a small one of the right kind is read, told once.
    #[test]
    fn what_was_remembered_is_named_and_what_is_no_such_file_is_told_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        let shared = Shared::default();
        let mut vulnerable = Vulnerable::new(home.path(), Arc::clone(&shared));
        let mut finding = crate::daemon::example_finding("w", "", 0);
        finding.objects = vec![Object::ExecMemory { subject: Subject::host().into() }];
        let text = |id: &str| {
            format!(
                "{{\"version\":1,\"programs\":[{{\"asked\":null,\"user\":{{\"workload\":\"host\",\
                 \"program\":\"(kernel)\"}},\"vulnerabilities\":[{{\"id\":\"{id}\",\"package\":\"p\",\
                 \"installed\":\"1\",\"as_of_ns\":0}}]}}]}}"
            )
        };
        let mut ids = || {
            let said = [vulnerable.look(), vulnerable.look()].into_iter().flatten().count();
            let named = of(&shared, &finding).into_iter().map(|one| one.id);
            (named.collect::<Vec<String>>(), said)
        };
        assert_eq!(ids(), (vec![], 0));
        replace(&path, text("CVE-1").as_bytes()).unwrap();
        assert_eq!(ids(), (vec!["CVE-1".into()], 0));
        replace(&path, text(&"x".repeat(5 << 20)).as_bytes()).unwrap();
        assert_eq!(ids(), (vec![], 1));
        replace(&path, text("CVE-2").as_bytes()).unwrap();
        assert_eq!(ids().0, ["CVE-2"]);
        fs::rename(&path, home.path().join("other")).unwrap();
        assert_eq!(ids(), (vec![], 0));
        std::os::unix::fs::symlink(home.path().join("other"), &path).unwrap();
        assert_eq!(ids(), (vec![], 1));
        fs::remove_file(&path).unwrap();
        replace(&path, b"{}").unwrap();
        assert_eq!(ids(), (vec![], 1));
    }
}
