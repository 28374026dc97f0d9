//! Our own files that are only ever replaced whole.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Puts a file of this content in the place of `path`, as [`replace_with`] does.
///
/// # Errors
/// As there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(content))
}

/// Puts a file that `fill` writes, 0600, in the place of `path`, of a link itself where one is there: after a
/// crash at any point there is the old file or the new one, whole.
///
/// It is written as `NAME.new` beside it, and what lies there, of a writer that crashed or of somebody else,
/// is taken away, never written to. So a path has one writer at a time.
///
/// # Errors
/// The file can't be made, filled, brought to the disk or renamed: the old one is still there, and nothing
/// of the new one. Or the directory can't be brought to the disk: the new one is there, and a crash may undo it.
pub fn replace_with<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let fresh = beside(path)?;
    let mut file = make(&fresh)?;
    let written = fill(&mut file).and_then(|()| {
        file.sync_all()?;
        Ok(fs::rename(&fresh, path)?)
    });
    if written.is_err() {
        // The first error is the one to report.
        drop(fs::remove_file(&fresh));
        return written;
    }
    Ok(sync_parent(path)?)
}

/// Makes a rename, a new name or a removal in the directory of `path` durable.
///
/// # Errors
/// The disk doesn't take it.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a file where there is none, so that no link is followed and nobody has it open.
fn make(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(why) if why.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        made => made,
    }
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(path.file_name().ok_or(ErrorKind::InvalidInput)?);
    name.push(".new");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
        process::Command,
    };

    use hedgerow_lab::Disk;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_and_replaced_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kept.json");
        for content in ["one, which is longer", "two"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        assert_eq!(names(home.path()), ["kept.json"]);
        assert!(replace(Path::new("/"), b"").is_err());
        assert!(replace(&home.path().join(".."), b"").is_err());
    }

    #[test]
    fn what_lies_at_the_temporary_name_is_neither_followed_nor_written_to() {
        let home = tempfile::tempdir().unwrap();
        let (path, fresh) = (home.path().join("kept"), home.path().join("kept.new"));
        let victim = home.path().join("victim");
        fs::write(&victim, "whole").unwrap();
        let nowhere = home.path().join("nowhere");
        let plant: [&dyn Fn(); 5] = [
            // Of a writer that crashed.
            &|| fs::write(&fresh, "half").unwrap(),
            &|| symlink(&victim, &fresh).unwrap(),
            &|| symlink(&nowhere, &fresh).unwrap(),
            &|| fs::hard_link(&victim, &fresh).unwrap(),
            // Who opened it to write would wait for a reader.
            &|| assert!(Command::new("mkfifo").arg(&fresh).status().unwrap().success()),
        ];
        for plant in plant {
            plant();
            replace(&path, b"new").unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(fs::read(&victim).unwrap(), b"whole");
            assert_eq!(names(home.path()), ["kept", "victim"]);
        }
        // What can't be taken away is an error, and stays.
        fs::create_dir(&fresh).unwrap();
        assert!(replace(&path, b"newer").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fresh.is_dir());
    }

    #[test]
    fn a_link_at_the_name_itself_is_replaced_and_what_it_leads_to_is_left() {
        let home = tempfile::tempdir().unwrap();
        let (path, victim) = (home.path().join("kept"), home.path().join("victim"));
        fs::write(&victim, "whole").unwrap();
        symlink(&victim, &path).unwrap();
        replace(&path, b"new").unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&victim).unwrap(), b"whole");
    }

    #[test]
    fn who_fails_half_way_leaves_the_old_file_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kept");
        fs::write(&path, "old").unwrap();
        let failed = replace_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("enough"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "enough");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // A directory is replaced by no file.
        let directory = home.path().join("directory");
        fs::create_dir(&directory).unwrap();
        assert!(replace(&directory, b"new").is_err());
        assert_eq!(names(home.path()), ["directory", "kept"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_whole() {
        // SAFETY: it only reads a number of this process.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("not root: no tmpfs to fill");
            return;
        }
        let disk = Disk::mount("size=64k").unwrap();
        let path = disk.path().join("kept");
        replace(&path, b"old").unwrap();
        let why = replace(&path, &[b'x'; 1 << 20]).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(disk.path()), ["kept"]);
        // There is room again at once.
        replace(&path, &[b'y'; 40_000]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 40_000);
    }
}
