//! Files of lines that we append to, as an earlier run may have left them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Longest line that is looked for at the end of a file that was cut short.
const TORN_MAX: u64 = 16 << 20;

/// Opens the file at `path`, which is no link, to append to it; it is made where there is none, 0600.
///
/// # Errors
/// It can't be opened, or made.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Takes a last line without its end away, so that it spoils no other, which works on a full disk, too; the
/// file's length, and how much went.
///
/// # Errors
/// It can't be read, or cut.
pub fn heal(file: &mut File) -> io::Result<(u64, u64)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TORN_MAX)))?;
    file.take(TORN_MAX).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = (end.len() - whole) as u64;
    if torn > 0 {
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
        for (left, whole) in [("", ""), ("a\nb\n", "a\nb\n"), ("a\nhal", "a\n"), ("hal", "")] {
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
        assert!(open(&link).is_err());
    }
}
