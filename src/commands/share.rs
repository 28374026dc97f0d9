//! `hedgerow capture share`: a capture as it can be given away.

use std::ffi::CString;

use hedgerow_offline::{
    fleet, holes,
    share::{self, Owner, Pseudonyms},
};

use super::offline::{progress, tell_holes};
use crate::{cli, exit::Failure, text};

pub fn run(arguments: &cli::Share, json: bool) -> anyhow::Result<()> {
    let owner = owner(&arguments.owner)?;
    let key = arguments.pseudonymise.as_deref().map(fleet::share_key).transpose()?;
    let bar = progress(0, json)?;
    let shared = share::share(
        &arguments.capture,
        &arguments.out,
        owner,
        key.map(Pseudonyms::new),
        &mut |rows| bar.inc(rows),
    );
    bar.finish_and_clear();
    let shared = shared?;
    if json {
        let told =
            serde_json::json!({ "shared": shared, "holes": holes::json(&shared.damaged, &[]) });
        text::json(&told)?;
        return Ok(());
    }
    tell_holes(&shared.damaged, &[]);
    let out = arguments.out.display();
    let names = match shared.pseudonymised {
        false => "names are as they were",
        true => "names, addresses and users are replaced",
    };
    text::say(&format!(
        "In {out}, for {} alone, are {} in {}: no arguments; {names}.",
        arguments.owner,
        text::counted(shared.rows, "row", "rows"),
        text::counted(shared.files, "file", "files")
    ));
    Ok(())
}

/// A user by name or number, with the group that it is in.
fn owner(name: &str) -> anyhow::Result<Owner> {
    let unknown = || Failure::Usage(format!("--owner: this host has no user `{name}`"));
    let text = CString::new(name).map_err(|_| unknown())?;
    // SAFETY: no other thread asks for users; what is returned is read before anybody does again.
    let entry = unsafe {
        match name.parse() {
            Ok(number) => libc::getpwuid(number),
            Err(_) => libc::getpwnam(text.as_ptr()),
        }
        .as_ref()
    };
    let entry = entry.ok_or_else(unknown)?;
    Ok(Owner { user: entry.pw_uid, group: entry.pw_gid })
}
