//! A host that builds: a fresh checkout, make, and what was built is run, again and again.

use std::fs;

use super::{files, repeat};
use crate::{
    error::{At, Result},
    lab::{Lab, User},
    network::Site,
    process::{Running, run},
};

const MAKEFILE: &str = "\
all: program
\t./program
\t@if [ -f check.sh ]; then sh check.sh; fi
program: $(patsubst %.c,%.o,$(wildcard *.c))
\tgcc -o $@ $^
%.o: %.c
\tgcc -O0 -c $< -o $@
";
const LOOP: &str = "n=0; while :; do n=$((n + 1)); rm -rf work; git clone -q origin work && \
                    make -s -C work >/dev/null 2>&1; tar -cf artifact.tar -C work program; sleep 2; done";

pub(super) fn start(lab: &Lab) -> Result<Running> {
    let directory = lab.subdirectory("ci", &User::ROOT)?;
    let origin = directory.join("origin");
    fs::create_dir_all(&origin).at("create", &origin)?;
    files::write_sources(&origin, 3)?;
    let makefile = origin.join("Makefile");
    fs::write(&makefile, MAKEFILE).at("write", &makefile)?;
    commit(lab, "init")?;
    repeat(lab, "ci", LOOP)
}

/// Commits what lies in the origin, as somebody who pushes from elsewhere.
pub(crate) fn commit(lab: &Lab, what: &str) -> Result<()> {
    let origin = lab.directory().join("ci/origin");
    let mut git = lab.command(Site::Attacker, "attacker", &User::ROOT, "/bin/sh")?;
    let script = "git init -q 2>/dev/null; git add -A && git -c user.name=a -c user.email=a@b commit \
                  -q --allow-empty -m \"$1\"";
    git.args(["-c", script, "sh", what]).current_dir(origin);
    run(git).map(drop)
}
