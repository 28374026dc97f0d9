//! Who did it, read from `/proc`.

use std::{fs, path::Path};

use hedgerow_event::{Finding, gate};

/// Ancestors told, nearest first.
const ANCESTORS_MAX: usize = 16;
/// Longest command line told.
const COMMAND_BYTES_MAX: usize = 1024;

/// Fills in what a finding can say of its process.
pub fn describe(finding: &mut Finding) {
    let Some(process) = &mut finding.process else { return };
    let directory = format!("/proc/{}", process.pid);
    let directory = Path::new(&directory);
    if let Ok(path) = fs::read_link(directory.join("exe")) {
        process.path = path.to_string_lossy().into_owned();
    } else {
        process.path = finding.subject.program.path.to_string();
    }
    if process.command_line.is_empty()
        && let Ok(command) = fs::read(directory.join("cmdline"))
    {
        let command = String::from_utf8_lossy(&command);
        let words: Vec<&str> = command.trim_end_matches('\0').split('\0').collect();
        process.command_line = gate::command(&words);
    }
    process.command_line = gate::cut(&process.command_line, COMMAND_BYTES_MAX);
    if let Ok(status) = fs::read_to_string(directory.join("status"))
        && let Some(uid) = field(&status, "Uid:").and_then(|text| text.parse().ok())
    {
        process.user_id = uid;
    }
    process.user = user_name(process.user_id);
    process.ancestors = ancestors(process.pid);
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn user_name(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn ancestors(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mut pid = pid;
    while found.len() < ANCESTORS_MAX {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { break };
        let Some(parent) = field(&status, "PPid:").and_then(|text| text.parse::<u32>().ok()) else {
            break;
        };
        if parent == 0 {
            break;
        }
        let path = fs::read_link(format!("/proc/{parent}/exe"));
        let name = path.map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
        found.push(format!("{name} ({parent})"));
        pid = parent;
    }
    found
}
