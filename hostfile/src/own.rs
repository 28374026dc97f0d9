//! Files and directories that are to be ours alone, in places that an operator names: somebody else may have
//! been there first, or may come.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind},
    mem::MaybeUninit,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

/// Who may write to a file besides its owner.
const OTHERS: u32 = 0o022;

/// As whom we make files.
pub fn user() -> u32 {
    // SAFETY: it only reads a number of this process.
    unsafe { libc::geteuid() }
}

/// Whether nothing can be written to where it is mounted here, whatever its mode says: a ConfigMap of
/// Kubernetes is such a directory.
pub fn is_read_only(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) else {
        return false;
    };
    let mut told = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `told` has room for what the call writes, and is read only where it has written it.
    unsafe {
        libc::fstatvfs(file.as_raw_fd(), told.as_mut_ptr()) == 0
            && told.assume_init().f_flag & libc::ST_RDONLY != 0
    }
}

fn name(user: u32) -> String {
    if user == 0 { "root".to_owned() } else { user.to_string() }
}

/// Whether nobody but this user, and root, can change what a name in the directory leads to; why not, and the
/// way out.
///
/// # Errors
/// Somebody else can, or it is no directory.
pub fn unchangeable(path: &Path, user: u32) -> Result<(), String> {
    let own = fs::symlink_metadata(path).map_err(|why| why.to_string())?;
    if !own.is_dir() {
        return Err("it is no directory, or a link to one; name the directory itself".to_owned());
    }
    is_of(&own, user)?;
    let mode = own.mode() & 0o7777;
    if mode & OTHERS != 0 {
        // What lies there already may be theirs.
        return Err(format!("others may write to it (mode {mode:o}); use another"));
    }
    let whole = fs::canonicalize(path).map_err(|why| why.to_string())?;
    for above in whole.ancestors().skip(1) {
        let metadata = fs::metadata(above).map_err(|why| why.to_string())?;
        let open = metadata.mode() & OTHERS != 0 && metadata.mode() & 0o1000 == 0;
        if ![0, user].contains(&metadata.uid()) || open {
            return Err(format!(
                "others than {} can rename it, since they may change {}; use another",
                name(user),
                above.display()
            ));
        }
    }
    Ok(())
}

/// Whether nobody but us, and root, can put a file at the path, or take it away; why not, and the way out. Where
/// the directory itself lies is its operator's choice.
///
/// # Errors
/// Somebody else can, or the path lies in no directory.
pub fn place(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let shown = parent.display();
    let metadata = match fs::metadata(parent) {
        Err(why) if why.kind() == ErrorKind::NotFound => {
            return Err(io::Error::new(why.kind(), format!("make the directory {shown} first")));
        }
        found => found?,
    };
    if !metadata.is_dir() {
        return Err(io::Error::new(ErrorKind::NotADirectory, format!("{shown} is no directory")));
    }
    let mode = metadata.mode() & 0o7777;
    if ![0, user()].contains(&metadata.uid()) || mode & OTHERS != 0 {
        return Err(refused(format!(
            "others may write to the directory {shown} (user {}, mode {mode:o}); make one for it that is {}'s alone",
            metadata.uid(),
            name(user())
        )));
    }
    Ok(())
}

fn refused(why: String) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

fn is_of(metadata: &Metadata, user: u32) -> Result<(), String> {
    match metadata.uid() {
        owner if owner == user => Ok(()),
        owner => {
            Err(format!("it belongs to user {owner}; `chown {}` it, or use another", name(user)))
        }
    }
}

/// Whether it is a file that we made: regular, ours, of no other name, and nobody else writes to it.
///
/// # Errors
/// It is not; why, and the way out.
pub fn is_ours(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a link, which is not followed",
        () if kind.is_fifo() => "a FIFO",
        () if !kind.is_file() => "no regular file",
        () => return is_ours_alone(metadata),
    };
    Err(refused(format!("it is {what}; take it away, or use another")))
}

fn is_ours_alone(metadata: &Metadata) -> io::Result<()> {
    is_of(metadata, user()).map_err(refused)?;
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(refused(format!(
            "others may write to it (mode {mode:o}); `chmod 600` it, or use another"
        )));
    }
    match metadata.nlink() {
        0 | 1 => Ok(()),
        links => Err(refused(format!("it has {links} names; take it away, or use another"))),
    }
}

/// Opens a file that is ours: no link is followed, and no FIFO waited for.
///
/// # Errors
/// It can't be opened, or is not ours.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    match options.custom_flags(flags).open(path) {
        Ok(file) => is_ours(&file.metadata()?).map(|()| file),
        // What it is tells more than that it can't be opened.
        Err(why) => {
            fs::symlink_metadata(path).map_or(Ok(()), |there| is_ours(&there))?;
            Err(why)
        }
    }
}

/// The mode of a file that every user may read, whose directories all let them through.
pub fn open_to_others(path: &Path) -> Option<u32> {
    let path = path.canonicalize().ok()?;
    let mode = |path: &Path| path.metadata().map(|told| told.mode() & 0o7777).ok();
    let passed = |directory: &Path| mode(directory).is_some_and(|mode| mode & 0o001 != 0);
    mode(&path).filter(|mode| mode & 0o004 != 0 && path.ancestors().skip(1).all(passed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        os::unix::fs::{PermissionsExt, chown, symlink},
        process::Command,
    };

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_file_of_our_own_is_opened_and_what_else_lies_there_is_named() {
        let home = tempfile::tempdir().unwrap();
        let (path, other) = (home.path().join("f"), home.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        let plants: [(&str, &dyn Fn()); 6] = [
            ("a link", &|| symlink(&other, &path).unwrap()),
            ("a link", &|| symlink("/nowhere", &path).unwrap()),
            // Who opened it to read would wait for a writer.
            ("a FIFO", &|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success())),
            ("a directory", &|| fs::create_dir(&path).unwrap()),
            ("2 names", &|| fs::hard_link(&other, &path).unwrap()),
            ("others may write to it (mode 622)", &|| {
                fs::write(&path, "").unwrap();
                set_mode(&path, 0o622);
            }),
        ];
        for (why, plant) in plants {
            plant();
            for options in [File::options().read(true), File::options().create(true).append(true)] {
                let said = open(&path, options).unwrap_err().to_string();
                assert!(said.contains(why) && said.contains("or use another"), "{said}");
            }
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        }
        fs::write(&path, "").unwrap();
        open(&path, File::options().read(true)).unwrap();
        if user() == 0 {
            chown(&path, Some(12_345), None).unwrap();
            let said = open(&path, File::options().read(true)).unwrap_err().to_string();
            assert!(said.contains("user 12345; `chown root` it"), "{said}");
        }
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
    }

    #[test]
    fn a_place_that_others_may_write_to_is_refused_with_the_way_out() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("d");
        let said = || place(&directory.join("f")).unwrap_err().to_string();
        assert_eq!(said(), format!("make the directory {} first", directory.display()));
        fs::write(&directory, "").unwrap();
        assert_eq!(said(), format!("{} is no directory", directory.display()));
        fs::remove_file(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        for mode in [0o770, 0o1777, 0o702] {
            set_mode(&directory, mode);
            let said = said();
            assert!(said.contains(&format!("mode {mode:o}); make one")), "{said}");
            let why = unchangeable(&directory, user()).unwrap_err();
            assert!(why.contains("others may write to it"), "{why}");
        }
        set_mode(&directory, 0o755);
        place(&directory.join("f")).unwrap();
        unchangeable(&directory, user()).unwrap();
        if user() == 0 {
            chown(&directory, Some(12_345), None).unwrap();
            assert!(said().contains("user 12345"), "{}", said());
        }
    }
}
