//! The ways around Hedgerow that are known, each with the tests that guard against it.

mod busy;
mod names;
mod operator;
mod stopping;
mod ways_out;

/// A test: directory of its package, target (`lib` for a library's unit test), name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Test(pub &'static str, pub &'static str, pub &'static str);

/// One way around.
#[derive(Debug)]
pub struct Row {
    pub what: &'static str,
    pub guards: &'static [Test],
    /// What stays open, or what a kernel can't do; a row without a guard is open.
    pub open: &'static str,
}

/// A part of the table.
#[derive(Debug)]
pub struct Part {
    pub title: &'static str,
    pub rows: &'static [Row],
}

const fn row(what: &'static str, guards: &'static [Test]) -> Row {
    Row { what, guards, open: "" }
}

const fn partly(what: &'static str, guards: &'static [Test], open: &'static str) -> Row {
    Row { what, guards, open }
}

const fn unit(package: &'static str, name: &'static str) -> Test {
    Test(package, "lib", name)
}

const fn probe(target: &'static str, name: &'static str) -> Test {
    Test("probe", target, name)
}

const fn deny(target: &'static str, name: &'static str) -> Test {
    Test("responder", target, name)
}

const fn whole(target: &'static str, name: &'static str) -> Test {
    Test(".", target, name)
}

/// A unit test of the program itself.
const fn own(name: &'static str) -> Test {
    Test(".", "hedgerow", name)
}

pub const TABLE: &[Part] =
    &[names::NAMES, busy::BUSY, stopping::STOPPING, ways_out::WAYS_OUT, operator::OPERATOR];

#[cfg(test)]
const HEAD: &str = "\
# Ways around Hedgerow

What an attacker who knows Hedgerow would try, and the tests that guard against it. `make evasions` runs
them, here and under Debian's 6.1 and 6.12 kernels, and prints the results. What stays open is
said. This file is generated from `lab/src/bin/evasions/list/` and checked by `cargo test -p
hedgerow-lab --bin evasions`; with `HEDGEROW_UPDATE_DOCS=1` that writes it.

";

/// docs/evasions.md.
#[cfg(test)]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for part in TABLE {
        text += &format!("## {}\n\n| way | guarded by | open |\n|---|---|---|\n", part.title);
        for row in part.rows {
            let name = |Test(package, target, name): &Test| match (*package, *target) {
                (".", "hedgerow") => format!("`src`: `{name}`"),
                (".", target) => format!("`tests/{target}.rs`: `{name}`"),
                (package, "lib") => format!("`{package}`: `{name}`"),
                (package, target) => format!("`{package}/tests/{target}.rs`: `{name}`"),
            };
            let guards: Vec<_> = row.guards.iter().map(name).collect();
            let guards = if guards.is_empty() { "nothing".to_owned() } else { guards.join("<br>") };
            text += &format!("| {} | {guards} | {} |\n", row.what, row.open);
        }
        text += "\n";
    }
    text.trim_end().to_owned() + "\n"
}
