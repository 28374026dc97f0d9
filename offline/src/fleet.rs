//! Keys out of files: one for a whole fleet, so that n-grams and items mean the same in the captures
//! of all hosts and runs, and one by which names are replaced in what is shared.

use std::{io::Read, os::unix::fs::MetadataExt, path::Path};

use sha2::{Digest, Sha256};

use crate::{Error, Result, files};

/// Bytes of a key file.
const BYTES_LEAST: usize = 16;
const BYTES_MAX: usize = 4096;

/// Reads a fleet's key: any secret of 16 bytes or more.
///
/// # Errors
/// Others may read or change the file, or it holds too little.
pub fn key(path: &Path) -> Result<u64> {
    let [a, b, c, d, e, f, g, h, ..] = secret(path, b"hedgerow fleet key 1\0")?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Reads a key by which names are replaced.
///
/// # Errors
/// As [`key`].
pub fn share_key(path: &Path) -> Result<[u8; 32]> {
    secret(path, b"hedgerow share key 1\0")
}

/// What a file's secret gives for one purpose.
fn secret(path: &Path, purpose: &[u8]) -> Result<[u8; 32]> {
    let file = files::open(path)?;
    let metadata = file.metadata().map_err(|why| Error::at(path, why))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others may read or change the key (mode {mode:o}); `chmod 600` it");
        return Err(Error::at(path, why));
    }
    let mut secret = Vec::new();
    let most = BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut secret).map_err(|why| Error::at(path, why))?;
    let secret = secret.trim_ascii();
    if !(BYTES_LEAST..=BYTES_MAX).contains(&secret.len()) {
        let why = format!(
            "{} bytes; a key file holds {BYTES_LEAST} to {BYTES_MAX}, such as `head -c 32 \
             /dev/urandom | base64` gives",
            secret.len()
        );
        return Err(Error::at(path, why));
    }
    Ok(Sha256::new().chain_update(purpose).chain_update(secret).finalize().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_a_secret_of_one_user() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            key(&path)
        };
        let one = write("correct horse battery\n", 0o600).unwrap();
        assert_eq!(write("correct horse battery", 0o400).unwrap(), one);
        assert_ne!(write("correct horse staple", 0o600).unwrap(), one);
        for (text, mode, told) in
            [("correct horse battery", 0o640, "chmod 600"), ("short", 0o600, "5 bytes")]
        {
            let error = write(text, mode).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("key"), "{error}");
        }
        assert!(key(home.path()).is_err());
    }
}
