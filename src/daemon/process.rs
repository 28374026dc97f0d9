//! Who did it, read from `/proc`.

use std::{fs, path::Path};

use hedgerow_event::{Finding, gate};
use hedgerow_hostfile::Reader;
use hedgerow_probe::identity::{
    program,
    workload::{self, CgroupOwner},
};

/// Ancestors told, nearest first.
const ANCESTORS_MAX: usize = 16;
/// Longest command line told.
const COMMAND_BYTES_MAX: usize = 1024;

/// Most of a command line that is read.
const COMMAND_READ_MAX: u64 = 64 << 10;

/// Fills in what a finding can say of its process, while that lives. Only
/// the kernel is asked, but for the command line: its pages are the process's own.
pub fn describe(finding: &mut Finding, boot_id: &str, reader: &mut Reader) {
    // A number of an earlier boot is somebody else's.
    let is_of_now = finding.boot_id == boot_id;
    let Some(process) = finding.process.as_mut().filter(|_| is_of_now) else { return };
    let directory = format!("/proc/{}", process.pid);
    let directory = Path::new(&directory);
    let alive = is_same(process.pid, process.start_boot_ns);
    let path = executable(process.pid).filter(|_| alive);
    process.path = path.unwrap_or_else(|| finding.subject.program.path.to_string());
    if alive
        && process.command_line.is_empty()
        && let Ok(command) = reader.read_proc(process.pid, "cmdline", COMMAND_READ_MAX)
    {
        let command = String::from_utf8_lossy(&command);
        let words: Vec<&str> = command.trim_end_matches('\0').split('\0').collect();
        process.command_line = gate::command(&words);
    }
    process.command_line = gate::cut(&process.command_line, COMMAND_BYTES_MAX);
    if !alive {
        return;
    }
    if let Ok(status) = fs::read_to_string(directory.join("status"))
        && let Some(uid) = field(&status, "Uid:").and_then(|text| text.parse().ok())
    {
        process.user_id = uid;
    }
    process.user = user_name(process.user_id);
    process.login_user = process.login_user_id.and_then(user_name);
    let cgroups = fs::read_to_string(directory.join("cgroup")).ok();
    process.container = cgroups.and_then(|lines| container(&lines));
    process.ancestors = ancestors(process.pid);
}

/// What a process runs. Who runs it chose how long its path is.
fn executable(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(program::told(&path.to_string_lossy()).into_owned())
}

/// Whether the process is still the one that started then: its number may be another's by now.
/// `/proc` counts in hundredths of a second.
fn is_same(pid: u32, start_boot_ns: u64) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The 22nd field; the second may hold anything, also parentheses.
    let field = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    let ticks = field.and_then(|field| field.parse::<u64>().ok());
    start_boot_ns == 0 || ticks.is_some_and(|ticks| ticks.abs_diff(start_boot_ns / 10_000_000) <= 1)
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

/// The id of the container that the lines of `/proc/PID/cgroup` tell of.
fn container(lines: &str) -> Option<String> {
    match workload::owner(workload::unified_path(lines)?) {
        CgroupOwner::Container { id, .. } => Some(id),
        CgroupOwner::Host | CgroupOwner::Unit(_) => None,
    }
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
        let name = executable(parent).unwrap_or_else(|| "?".to_owned());
        found.push(format!("{name} ({parent})"));
        pid = parent;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = std::process::id();
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let ticks = text.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
        let start = ticks.parse::<u64>().unwrap() * 10_000_000;
        assert!(is_same(own, start) && is_same(own, 0));
        assert!(!is_same(own, start + 1_000_000_000) && !is_same(u32::MAX, start));
    }

    #[test]
    fn a_process_of_an_earlier_boot_is_left_as_it_was_told() {
        let mut finding = super::super::example_finding("w", "", 0);
        let told = hedgerow_event::Process { pid: std::process::id(), ..Default::default() };
        finding.process = Some(told.clone());
        let mut reader = Reader::new("processes");
        describe(&mut finding, "before", &mut reader);
        assert_eq!(finding.process, Some(told));
        describe(&mut finding, "b", &mut reader);
        assert!(!finding.process.unwrap().path.is_empty());
    }

    #[test]
    fn no_path_is_told_longer_than_the_kernel_tells_one() {
        use std::io::{BufRead, BufReader};

        let home = tempfile::tempdir().unwrap();
        let mut deep = home.path().to_owned();
        (0..15).for_each(|_| deep.push("\u{1}".repeat(255)));
        fs::create_dir_all(&deep).unwrap();
        let shell = deep.join("sh");
        fs::copy("/bin/bash", &shell).unwrap();
        let mut command = std::process::Command::new(&shell);
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let mut parent = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = line.trim().parse().unwrap();
        let told = |pid| {
            let mut finding = super::super::example_finding("w", "", 0);
            finding.process = Some(hedgerow_event::Process { pid, ..Default::default() });
            describe(&mut finding, "b", &mut Reader::new("processes"));
            finding.process.unwrap()
        };
        let (of_parent, of_child) = (told(parent.id()), told(child));
        // SAFETY: a system call without memory, about a child's child that lives.
        unsafe { libc::kill(child.cast_signed(), libc::SIGKILL) };
        parent.wait().unwrap();
        let is_cut = |path: &str| path.contains("/sh") && path.len() < 300;
        assert!(is_cut(&of_parent.path), "{}", of_parent.path.len());
        assert!(is_cut(&of_child.ancestors[0]), "{}", of_child.ancestors[0].len());
    }

    #[test]
    fn a_container_is_told_by_its_id_and_a_unit_is_none() {
        let id = "0123456789abcdef".repeat(4);
        let pod = format!(
            "12:cpu:/x\n0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"
        );
        assert_eq!(container(&pod), Some(id));
        assert_eq!(container("0::/system.slice/nginx.service\n"), None);
    }
}
