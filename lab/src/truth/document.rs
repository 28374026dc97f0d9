//! The table in a document, between two markers.

use std::{fs, path::Path};

use anyhow::Context;

const BEGIN: &str = "<!-- make truth: begin -->";
const END: &str = "<!-- make truth: end -->";

/// Replaces what lies between the markers of a Markdown file.
///
/// # Errors
/// The file can't be read or written, or has no markers.
pub fn put(path: &Path, table: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let new = between(&text, table)
        .with_context(|| format!("{}: no `{BEGIN}` before a `{END}`", path.display()))?;
    fs::write(path, new).with_context(|| path.display().to_string())
}

fn between(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let text = format!("# a\n{BEGIN}\nold\n{END}\n# b\n");
        let new = between(&text, "new\n");
        assert_eq!(new, Some(format!("# a\n{BEGIN}\n\nnew\n\n{END}\n# b\n")));
        assert_eq!(between("# a\n", "new"), None);
        assert_eq!(between(&format!("{END}{BEGIN}"), "new"), None);
    }
}
