//! From an executable's path and arguments to the program it stands for. Pure.

use std::{borrow::Cow, sync::Arc};

use hedgerow_bpf::wire;
use hedgerow_event::Program;

/// The path that every program without a file has: one per workload, whatever its name.
pub const MEMORY: &str = "memfd";

/// What stands before a path of which the head is missing: it names nothing, since anybody can
/// make directories until what is left reads like another program's path.
pub const CUT: &str = hedgerow_event::PATH_CUT;

/// A path as the kernel would tell it: one that is too long has lost its head.
pub fn told(path: &str) -> Cow<'_, str> {
    let most = wire::WIRE_PATH_MAX as usize - 1;
    if path.len() <= most {
        return path.into();
    }
    let from = path.len() - most;
    let start = (from..path.len()).find(|at| path.is_char_boundary(*at)).unwrap_or(path.len());
    let tail = &path[start..];
    format!("{CUT}{}", tail.split_once('/').map_or(tail, |(_, whole)| whole)).into()
}

/// The words of a command line, at most [`wire::WIRE_ARGUMENTS_MAX`] - 1 bytes of it, by which a
/// program is named whether it was seen to exec or is found running. The word that the limit cuts
/// is none.
pub fn words(command: &str) -> Vec<&str> {
    let full = command.len() >= wire::WIRE_ARGUMENTS_MAX as usize - 1;
    let mut words: Vec<&str> = command.trim_end_matches('\0').split('\0').collect();
    if full && !command.ends_with('\0') {
        words.pop();
    }
    words
}

/// Names the program that runs `path` (as in its own mount namespace) with `arguments`, the first of which is `argv[0]`.
///
/// `kernel_script` is the script that the kernel itself ran through an interpreter (`#!`); without
/// one an interpreter's script is taken from its arguments, which the process chose.
pub fn name(path: &str, arguments: &[&str], kernel_script: Option<&str>) -> Program {
    if path.starts_with("/memfd:")
        || path.starts_with("memfd:")
        || path.starts_with("/dev/shm/memfd")
    {
        return Program::new(MEMORY);
    }
    let base = basename(path);
    if base == "busybox"
        && let Some(applet) = applet(arguments)
    {
        return with_script(path, applet);
    }
    if is_loader(base)
        && let Some(program) = loaded(arguments)
    {
        return Program::new(program);
    }
    if let Some(script) = kernel_script {
        return with_script(path, script);
    }
    match interpreter(base).and_then(|options| script(arguments, options)) {
        Some(script) => with_script(path, &script),
        None => Program::new(path),
    }
}

fn with_script(path: &str, script: &str) -> Program {
    Program { path: path.into(), script: Some(Arc::from(script)) }
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn applet<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let first = basename(arguments.first()?.trim_start_matches('-'));
    if first != "busybox" {
        return Some(first);
    }
    arguments.get(1).map(|word| basename(word))
}

/// `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld-2.31.so`.
fn is_loader(base: &str) -> bool {
    base.starts_with("ld-") && base.contains(".so")
}

/// The program that a dynamic loader was asked to run.
fn loaded<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        match *word {
            option if LOADER_VALUED.contains(&option) => {
                words.next();
            }
            option if LOADER_NOTHING.contains(&option) => return None,
            option if option.starts_with(['-', '+']) => {}
            program => return Some(program),
        }
    }
    None
}

const LOADER_VALUED: [&str; 7] = [
    "--library-path",
    "--preload",
    "--audit",
    "--argv0",
    "--inhibit-rpath",
    "--glibc-hwcaps-prepend",
    "--glibc-hwcaps-mask",
];
const LOADER_NOTHING: [&str; 6] =
    ["--help", "--list", "--verify", "--version", "--list-tunables", "--list-diagnostics"];

/// How an interpreter's arguments are read.
#[derive(Debug, Clone, Copy)]
struct Options {
    /// Letters that take the next word as their value.
    valued: &'static [&'static str],
    /// Words after which the program text follows in the arguments.
    inline: &'static [&'static str],
    /// Words whose next word names what is run (`-m module`, `-jar file`).
    named: &'static [&'static str],
}

/// Interpreters by the names of their files, without the digits and dots at the end.
const INTERPRETERS: [(&[&str], Options); 8] = [
    (
        &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish"],
        Options {
            valued: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
            inline: &["-c", "-lc", "-ec", "-ce", "-xc", "-exc", "-cl"],
            named: &[],
        },
    ),
    (&["python", "pypy"], Options { valued: &["-W", "-X", "-Q"], inline: &["-c"], named: &["-m"] }),
    (&["perl"], Options { valued: &["-I"], inline: &["-e", "-E", "-ne", "-pe"], named: &[] }),
    (&["ruby"], Options { valued: &["-I", "-r"], inline: &["-e"], named: &[] }),
    (
        &["node", "nodejs", "bun", "deno"],
        Options { valued: &["-r", "--require"], inline: &["-e", "--eval", "-p"], named: &[] },
    ),
    (&["php", "php-cgi"], Options { valued: &["-d", "-c"], inline: &["-r"], named: &["-f"] }),
    (
        &["java"],
        Options {
            valued: &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules"],
            inline: &[],
            named: &["-jar", "-m", "--module"],
        },
    ),
    (
        &["lua", "luajit", "tclsh", "wish", "Rscript", "gawk", "awk", "expect"],
        Options { valued: &["-v", "-F"], inline: &["-e"], named: &["-f"] },
    ),
];

fn interpreter(base: &str) -> Option<Options> {
    let stem = base.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let found = INTERPRETERS.iter().find(|(names, _)| names.contains(&stem));
    found.map(|(_, options)| *options)
}

/// Whether the arguments of a program decide what it stands for.
pub fn takes_script(path: &str) -> bool {
    let base = basename(path);
    base == "busybox" || is_loader(base) || interpreter(base).is_some()
}

/// The file that a program runs besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second<'a> {
    None,
    /// A script, or what the dynamic loader runs, by its absolute path.
    Path(&'a str),
    /// Text of the command line, a module, or a file of a relative path.
    Unnamed,
}

/// What an exec of the file at `path` runs besides, by the program that it was named.
pub fn second<'a>(path: &str, program: &'a Program) -> Second<'a> {
    let base = basename(path);
    let named = match &program.script {
        None if is_loader(base) && *program.path != *path => &program.path,
        None => return Second::None,
        Some(_) if base == "busybox" => return Second::None,
        Some(script) => script,
    };
    if named.starts_with('/') { Second::Path(named) } else { Second::Unnamed }
}

/// FNV-1a, by which the kernel knows names and words.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Hashes of interpreters' names with their kinds (`enum wire_interpreter`), for the kernel.
pub fn kernel_interpreters() -> Vec<(u64, u32)> {
    let kinds = INTERPRETERS.iter().zip(wire::WIRE_INTERPRETER_OTHER..);
    let others = kinds.flat_map(|((names, _), kind)| names.iter().map(move |name| (*name, kind)));
    let all = others.chain([("busybox", wire::WIRE_INTERPRETER_BUSYBOX)]);
    all.map(|(name, kind)| (hash(name), kind)).collect()
}

/// Words of interpreters' arguments with their meanings (`enum wire_word`), for the kernel.
pub fn kernel_words() -> Vec<(wire::wire_word_key, u32)> {
    let mut found = Vec::new();
    let mut add = |interpreter: u32, words: &[&str], meaning: u32| {
        let key = |word: &&str| wire::wire_word_key { word: hash(word), interpreter, reserved: 0 };
        found.extend(words.iter().map(|word| (key(word), meaning)));
    };
    for ((_, options), kind) in INTERPRETERS.iter().zip(wire::WIRE_INTERPRETER_OTHER..) {
        add(kind, options.valued, wire::WIRE_WORD_VALUED);
        add(kind, options.inline, wire::WIRE_WORD_INLINE);
        add(kind, options.named, wire::WIRE_WORD_NAMED);
    }
    add(wire::WIRE_INTERPRETER_LOADER, &LOADER_VALUED, wire::WIRE_WORD_VALUED);
    add(wire::WIRE_INTERPRETER_LOADER, &LOADER_NOTHING, wire::WIRE_WORD_NOTHING);
    // Called by its own name, busybox takes the applet from the next word.
    add(wire::WIRE_INTERPRETER_BUSYBOX, &["busybox"], wire::WIRE_WORD_NAMED);
    found
}

/// What an interpreter runs, from its arguments; program text is `-c`, whatever it says.
fn script(arguments: &[&str], options: Options) -> Option<String> {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        if options.inline.contains(word) {
            return Some("-c".to_owned());
        }
        if options.named.contains(word) {
            return words.next().map(|name| format!("{word} {name}"));
        }
        if options.valued.contains(word) {
            words.next();
        } else if !(word.starts_with('-') || word.starts_with('+')) {
            return Some((*word).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, command: &str, kernel_script: Option<&str>, expected: &str) {
        let arguments: Vec<&str> = command.split(' ').collect();
        assert_eq!(name(path, &arguments, kernel_script).to_string(), expected, "{command}");
    }

    #[test]
    fn a_plain_program_is_its_path() {
        check("/usr/sbin/nginx", "nginx -g daemon_off", None, "/usr/sbin/nginx");
        check("/usr/sbin/nginx (deleted)", "nginx", None, "/usr/sbin/nginx (deleted)");
    }

    #[test]
    fn a_path_that_is_too_long_is_told_without_its_head() {
        assert_eq!(told("/usr/bin/dash"), "/usr/bin/dash");
        let deep = format!("/{}/usr/bin/dash", "d/".repeat(2000));
        let short = told(&deep);
        assert!(short.starts_with(".../d/") && short.ends_with("/usr/bin/dash"), "{short}");
        assert!(short.len() < wire::WIRE_PATH_MAX as usize + CUT.len());
        assert!(told(&"\u{e9}".repeat(2000)).starts_with(".../\u{e9}"));
    }

    #[test]
    fn a_script_is_part_of_the_program() {
        check("/usr/bin/dash", "/bin/sh ./s.sh", Some("./s.sh"), "/usr/bin/dash ./s.sh");
        check("/usr/bin/bash", "bash -e build.sh x", None, "/usr/bin/bash build.sh");
        check("/usr/bin/bash", "-bash", None, "/usr/bin/bash");
        check("/usr/bin/dash", "sh -c ls", None, "/usr/bin/dash -c");
        check(
            "/usr/bin/python3.11",
            "python3 -W ignore app.py",
            None,
            "/usr/bin/python3.11 app.py",
        );
        check(
            "/usr/bin/python3.11",
            "python3 -m http.server",
            None,
            "/usr/bin/python3.11 -m http.server",
        );
        check("/usr/bin/java", "java -cp /tmp H", None, "/usr/bin/java H");
        check("/usr/bin/java", "java -jar app.jar", None, "/usr/bin/java -jar app.jar");
        check("/usr/bin/perl", "perl -e print", None, "/usr/bin/perl -c");
    }

    #[test]
    fn loaders_and_busybox_stand_for_what_they_run() {
        check("/lib64/ld-linux-x86-64.so.2", "ld.so ./prog -x", None, "./prog");
        check("/lib/ld-musl-x86_64.so.1", "ld --library-path /l ./prog", None, "./prog");
        check("/bin/busybox", "wget http://x", None, "/bin/busybox wget");
        check("/bin/busybox", "busybox nc -l", None, "/bin/busybox nc");
    }

    #[test]
    fn the_word_that_the_limit_cuts_is_none() {
        let most = wire::WIRE_ARGUMENTS_MAX as usize - 1;
        let named = |command: &str| {
            let cut = &command[..command.len().min(most)];
            name("/usr/bin/java", &words(cut), None).to_string()
        };
        let long = "x".repeat(300);
        assert_eq!(named(&format!("java\0-cp\0{long}\0Main\0")), "/usr/bin/java");
        assert_eq!(named(&format!("java\0/{long}\0")), "/usr/bin/java", "no part of a name");
        assert_eq!(named("java\0-cp\0x\0Main\0"), "/usr/bin/java Main");
        assert!(words(&long[..most]).is_empty());
    }

    #[test]
    fn memory_files_are_one_program() {
        check("/memfd:a (deleted)", "a", None, "memfd");
        check("/memfd:b (deleted)", "b", Some("x"), "memfd");
    }
}
