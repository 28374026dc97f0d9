//! Copies of a saved state, so that each attack meets the same one.

use std::{fs, path::Path};

/// Copies a directory with all that is in it; links are left out.
///
/// # Errors
/// If `to` exists, or what the system refuses.
pub fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
