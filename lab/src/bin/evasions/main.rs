//! `make evasions`: the ways around Hedgerow that are known, each with the tests that guard against
//! it, and what those say on this host and in guests.

mod list;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail};
use clap::Parser;
use list::{Row, TABLE, Test};

/// Packages whose tests need nothing but a kernel, and run in guests.
const IN_GUESTS: [&str; 2] = ["probe", "responder"];

/// What a test prints of ways that the table says are open on this kernel.
const LET_THROUGH: &str = "let through: ";
/// What a test prints that found nothing here to try.
const NOT_TRIED: &str = "not tried: ";
/// What is told of a test beside its result.
const TOLD: [&str; 3] = ["not here: ", NOT_TRIED, LET_THROUGH];

/// Runs the tests that guard against known evasions, and prints a row for each of these.
#[derive(Debug, Parser)]
struct Options {
    /// Run the tests of probes and denials in a guest of this series, too (6.1, 6.12).
    #[arg(long)]
    guest: Vec<String>,
    /// Rows whose text contains this only.
    #[arg(long, default_value = "")]
    only: String,
}

/// What came of each test; `None` of one that did not run.
#[derive(Debug, Default)]
struct Results {
    passed: HashMap<Test, bool>,
    /// What a test says is not here, such as a protocol, or is let through, as is documented.
    said: HashMap<Test, BTreeSet<String>>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let wanted = |row: &&Row| row.what.contains(&options.only);
    let rows = || TABLE.iter().flat_map(|part| part.rows).filter(wanted);
    let tests: BTreeSet<Test> = rows().flat_map(|row| row.guards).copied().collect();
    if rows().next().is_none() {
        bail!("no row contains {:?}", options.only);
    }
    let programs = build()?;
    let mut columns = vec![("host".to_owned(), on_host(&tests, &programs)?)];
    for series in &options.guest {
        columns.push((series.clone(), in_guest(series, &tests, &programs)?));
    }
    let mut failed = false;
    for part in TABLE {
        let rows: Vec<_> = part.rows.iter().filter(wanted).collect();
        if rows.is_empty() {
            continue;
        }
        println!("\n{}", part.title);
        for row in rows {
            failed |= print(row, &columns);
        }
    }
    let guarded = rows().filter(|row| !row.guards.is_empty()).count();
    let partly = rows().filter(|row| !row.guards.is_empty() && !row.open.is_empty()).count();
    println!("\n{} rows, {guarded} guarded ({partly} in part)", rows().count());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints a row; true where a guard failed.
fn print(row: &Row, columns: &[(String, Results)]) -> bool {
    let mut failed = false;
    let mut cells = Vec::new();
    for (name, results) in columns {
        let ran: Vec<bool> =
            row.guards.iter().filter_map(|test| results.passed.get(test).copied()).collect();
        let said = |head: &str| {
            let lines = row.guards.iter().filter_map(|test| results.said.get(test)).flatten();
            lines.into_iter().any(|line| line.starts_with(head))
        };
        let word = match (ran.is_empty(), ran.iter().all(|passed| *passed)) {
            (true, _) if row.guards.is_empty() => "open",
            (true, _) => "-",
            (false, true) if said(LET_THROUGH) => "open",
            (false, true) if said(NOT_TRIED) => "not tried",
            (false, true) => "held",
            (false, false) => "BROKEN",
        };
        failed |= word == "BROKEN" || (word == "-" && name == "host");
        cells.push(format!("{name} {word}"));
    }
    println!("  {:<78} {}", row.what, cells.join("  "));
    for Test(package, target, name) in row.guards {
        println!("      {package} {target} {name}");
    }
    if !row.open.is_empty() {
        println!("      open: {}", row.open);
    }
    for (column, results) in columns {
        for said in row.guards.iter().filter_map(|test| results.said.get(test)).flatten() {
            println!("      {column}: {said}");
        }
    }
    failed
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Test programs by package and target.
type Programs = BTreeMap<(String, String), PathBuf>;

/// Builds every test as `make test` does, so that nothing is built twice.
fn build() -> anyhow::Result<Programs> {
    let arguments = ["test", "--locked", "--workspace", "--no-run"];
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .current_dir(root())
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start cargo")?;
    let root = root().canonicalize()?;
    let mut programs = Programs::new();
    let messages = cargo.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(messages).lines() {
        let message: serde_json::Value = serde_json::from_str(&line?)?;
        let text = |pointer| message.pointer(pointer).and_then(serde_json::Value::as_str);
        let (Some(program), Some(manifest), Some(target)) =
            (text("/executable"), text("/manifest_path"), text("/target/name"))
        else {
            continue;
        };
        let tested = message.pointer("/profile/test") == Some(&true.into());
        let package = Path::new(manifest).parent().and_then(|path| path.strip_prefix(&root).ok());
        let Some(package) = package.filter(|_| tested) else { continue };
        let package = match package.to_string_lossy() {
            own if own.is_empty() => ".".to_owned(),
            other => other.into_owned(),
        };
        let target = if text("/target/kind/0") == Some("lib") { "lib" } else { target };
        programs.insert((package, target.to_owned()), program.into());
    }
    if !cargo.wait()?.success() {
        bail!("the tests don't build");
    }
    Ok(programs)
}

/// The wanted tests of each program.
fn by_program<'a>(
    tests: &BTreeSet<Test>,
    programs: &'a Programs,
) -> anyhow::Result<Vec<(&'a Path, Vec<Test>)>> {
    let mut found: BTreeMap<&Path, Vec<Test>> = BTreeMap::new();
    for test in tests {
        let key = (test.0.to_owned(), test.1.to_owned());
        let program = programs.get(&key).with_context(|| format!("no test program {key:?}"))?;
        found.entry(program).or_default().push(*test);
    }
    Ok(found.into_iter().collect())
}

const FLAGS: [&str; 3] = ["--exact", "--show-output", "--test-threads=1"];

fn on_host(tests: &BTreeSet<Test>, programs: &Programs) -> anyhow::Result<Results> {
    let mut results = Results::default();
    for (program, tests) in by_program(tests, programs)? {
        let package = root().join(tests[0].0);
        eprintln!("     Running {}", program.display());
        let output = Command::new(root().join("scripts/as-root"))
            .arg(program)
            .args(FLAGS)
            .args(tests.iter().map(|test| test.2))
            .current_dir(package)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("can't run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        results.read(&text, &tests);
        if !output.status.success() {
            eprintln!("{text}");
        }
    }
    Ok(results)
}

fn in_guest(series: &str, tests: &BTreeSet<Test>, programs: &Programs) -> anyhow::Result<Results> {
    let tests = tests.iter().filter(|test| IN_GUESTS.contains(&test.0)).copied().collect();
    let mut guest = Command::new(root().join("scripts/vm"));
    guest.args(["-t", "900", series]);
    let programs = by_program(&tests, programs)?;
    for (program, tests) in &programs {
        guest.arg(program).args(FLAGS).args(tests.iter().map(|test| test.2)).arg("--");
    }
    eprintln!("     Running under {series}");
    let output = guest.stderr(Stdio::inherit()).output().context("can't run scripts/vm")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut results = Results::default();
    // What each program says follows its name.
    for part in text.split("     Running ").skip(1) {
        let name = part.lines().next().unwrap_or_default();
        let is_it = |program: &&(&Path, Vec<Test>)| {
            program.0.file_name().is_some_and(|file| file.to_string_lossy() == name)
        };
        if let Some((_, tests)) = programs.iter().find(is_it) {
            results.read(part, tests);
        }
    }
    if !output.status.success() {
        eprintln!("{text}");
    }
    Ok(results)
}

impl Results {
    /// Reads what a test program says; a test that it doesn't speak of has failed.
    fn read(&mut self, text: &str, tests: &[Test]) {
        for test in tests {
            let passed = text.lines().any(|line| {
                line.strip_prefix("test ").and_then(|line| line.strip_prefix(test.2))
                    == Some(" ... ok")
            });
            self.passed.insert(*test, passed);
            let head = format!("---- {} stdout ----", test.2);
            let said = text.split(&head).nth(1).unwrap_or_default();
            let said = said.split("\n---- ").next().unwrap_or_default();
            let is_told = |line: &&str| TOLD.iter().any(|head| line.starts_with(head));
            self.said.insert(*test, said.lines().filter(is_told).map(str::to_owned).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sources(test: &Test) -> Vec<PathBuf> {
        let package = root().join(test.0);
        let file = package.join("tests").join(format!("{}.rs", test.1));
        if file.exists() {
            return vec![file];
        }
        let (mut files, mut directories) = (Vec::new(), vec![package.join("src")]);
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        files
    }

    #[test]
    fn each_guard_is_a_test_and_each_row_without_one_says_so() {
        for row in TABLE.iter().flat_map(|part| part.rows) {
            assert!(!row.guards.is_empty() || !row.open.is_empty(), "{}", row.what);
            for test in row.guards {
                let name = test.2.rsplit("::").next().unwrap();
                let function = format!("fn {name}()");
                let has =
                    |path: &PathBuf| std::fs::read_to_string(path).unwrap().contains(&function);
                assert!(sources(test).iter().any(has), "{}: there is no test {test:?}", row.what);
            }
        }
    }

    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = root().join("docs/evasions.md");
        if std::env::var_os("HEDGEROW_UPDATE_DOCS").is_some() {
            std::fs::write(&path, list::markdown()).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == list::markdown(),
            "docs/evasions.md is out of date: HEDGEROW_UPDATE_DOCS=1 cargo test -p hedgerow-lab \
             --bin evasions"
        );
    }

    #[test]
    fn what_a_program_says_is_read_and_silence_is_a_failure() {
        let text = "test a ... ok\ntest b ... FAILED\n\n---- a stdout ----\nnot here: SMC\n\n\
                    ---- b stdout ----\nnot here: x\n";
        let [a, b, c] = ["a", "b", "c"].map(|name| Test("responder", "lib", name));
        let mut results = Results::default();
        results.read(text, &[a, b, c]);
        assert_eq!([a, b, c].map(|test| results.passed[&test]), [true, false, false]);
        assert_eq!(results.said[&a], BTreeSet::from(["not here: SMC".to_owned()]));
    }
}
