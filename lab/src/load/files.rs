//! Generated sources and trees that loads work on: the same in every run.

use std::{fmt::Write, fs, os::unix::fs::chown, path::Path};

use crate::{
    error::{At, Result},
    lab::User,
};

/// `count` C files, one of which has `main`.
pub(super) fn write_sources(directory: &Path, count: u32) -> Result<()> {
    for part in 0..count {
        let mut text = String::from("#include <stdio.h>\n#include <string.h>\n");
        for function in 0..40 {
            let _ = writeln!(
                text,
                "int f{part}_{function}(int x) {{ char b[64]; snprintf(b, sizeof b, \"%d\", x); \
                 for (int i = 0; i < {function}; i++) x = x * 31 + (int)strlen(b); return x; }}"
            );
        }
        if part == 0 {
            text.push_str("int main(void) { printf(\"%d\\n\", f0_7(3)); return 0; }\n");
        }
        let path = directory.join(format!("part{part}.c"));
        fs::write(&path, text).at("write", path)?;
    }
    Ok(())
}

/// `count` files of 1 to 4 KiB in folders of a hundred, owned by `user`.
pub(crate) fn write_tree(root: &Path, count: usize, user: Option<&User>) -> Result<()> {
    let own = |path: &Path| match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).at("chown", path),
        None => Ok(()),
    };
    fs::create_dir_all(root).at("create", root)?;
    own(root)?;
    for index in 0..count {
        let folder = root.join(format!("folder{:02}", index / 100));
        if index % 100 == 0 {
            fs::create_dir_all(&folder).at("create", &folder)?;
            own(&folder)?;
        }
        let path = folder.join(format!("file{index:05}.dat"));
        let line = format!("record {index} of a file that somebody needs\n");
        fs::write(&path, line.repeat(24 + index % 64)).at("write", &path)?;
        own(&path)?;
    }
    Ok(())
}
