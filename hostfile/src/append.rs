//! Files of lines that we append to, as an earlier run may have left them.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::own;

/// Longest line that is looked for at the end of a file that was cut short.
const TORN_MAX: u64 = 16 << 20;

/// Opens the file at `path` to append to it; it is made where there is none, 0600. It is one of our own, in a
/// directory that nobody else may write to.
///
/// # Errors
/// It can't be opened, or made, or is somebody else's.
pub fn open(path: &Path) -> io::Result<File> {
    own::place(path)?;
    own::open(path, File::options().create(true).read(true).append(true).mode(0o600))
}

/// Whether [`open`] would refuse what lies there, and where, without touching it.
///
/// # Errors
/// As there.
pub fn try_out(path: &Path) -> io::Result<()> {
    own::place(path)?;
    match fs::symlink_metadata(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        found => own::is_ours(&found?),
    }
}

/// Takes a last line of JSON without its end away, so that it spoils no other, which works on a full disk, too;
/// the file's length, and how much went.
///
/// # Errors
/// It can't be read, or cut, or what its last line begins with was never ours.
pub fn heal(file: &mut File) -> io::Result<(u64, u64)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TORN_MAX)))?;
    file.take(TORN_MAX).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = (end.len() - whole) as u64;
    if torn > 0 {
        // Zeroes are what a power cut may leave.
        if !matches!(end.get(whole), Some(b'{' | 0)) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "its last line has no end and is none of ours; end it, or use another file",
            ));
        }
        file.set_len(bytes - torn)?;
        file.sync_data()?;
    }
    Ok((bytes - torn, torn))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, io::Write, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_follows_the_last_whole_line_goes_and_a_link_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lines");
        let left =
            [("", ""), ("a\nb\n", "a\nb\n"), ("a\n{hal", "a\n"), ("{", ""), ("a\n\0\0", "a\n")];
        for (left, whole) in left {
            fs::write(&path, left).unwrap();
            let mut file = open(&path).unwrap();
            let torn = (left.len() - whole.len()) as u64;
            assert_eq!(heal(&mut file).unwrap(), (whole.len() as u64, torn));
            file.write_all(b"next\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{whole}next\n"));
        }
        let made = home.path().join("made");
        open(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(open(&link).is_err() && try_out(&link).is_err());
    }

    #[test]
    fn a_line_that_was_never_ours_is_not_cut_away() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notes");
        for theirs in ["a note", "one\ntwo", " {"] {
            fs::write(&path, theirs).unwrap();
            let said = heal(&mut open(&path).unwrap()).unwrap_err().to_string();
            assert!(said.contains("end it, or use another file"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_no_place_for_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lines");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        for why in [open(&path).map(drop).unwrap_err(), try_out(&path).unwrap_err()] {
            assert!(why.to_string().contains("others may write to the directory /"), "{why}");
        }
        assert!(!path.exists());
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        try_out(&path).unwrap();
        assert!(!path.exists(), "nothing is touched");
    }
}
