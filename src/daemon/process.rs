//! Who did it, read from `/proc`.

use std::{fs, path::Path};

use hedgerow_event::{Finding, gate};
use hedgerow_hostfile::Reader;
use hedgerow_probe::identity::{
    container::facts_of,
    program,
    workload::{self, CgroupOwner, Runtime},
};

use crate::users::Users;

/// Ancestors told, nearest first.
const ANCESTORS_MAX: usize = 16;
/// Longest command line told.
const COMMAND_BYTES_MAX: usize = 1024;

/// Longest name of a pod told: Kubernetes' are shorter.
const NAME_BYTES_MAX: usize = 256;

/// Most of a command line that is read.
const COMMAND_READ_MAX: u64 = 64 << 10;

/// Fills in what a finding can say of its process; of one that is gone its users' names. Only the kernel
/// is asked, but for the command line, whose pages are the process's own, and the host's users.
pub fn describe(finding: &mut Finding, boot_id: &str, reader: &mut Reader, users: &mut Users) {
    // A number of an earlier boot is somebody else's.
    let is_of_now = finding.boot_id == boot_id;
    let Some(process) = finding.process.as_mut().filter(|_| is_of_now) else { return };
    let workload = &finding.subject.workload;
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
    let mut is_of_host = !workload::is_container(workload);
    if alive {
        if let Ok(status) = fs::read_to_string(directory.join("status"))
            && let Some(uid) = field(&status, "Uid:").and_then(|text| text.parse().ok())
        {
            process.user_id = uid;
        }
        let cgroups = fs::read_to_string(directory.join("cgroup")).ok();
        if let Some((id, runtime)) = cgroups.and_then(|lines| container(&lines)) {
            process.pod = facts_of(reader, &id, runtime).pod.map(|pod| name(&pod));
            process.container = Some(id);
        }
        process.ancestors = ancestors(process.pid);
        is_of_host &= process.container.is_none() && reader.elsewhere(process.pid) == Some(false);
    }
    // A container has users of its own, whatever their numbers are called on the host.
    if is_of_host {
        users.refresh(reader);
        let named = |uid| users.name(uid).map(str::to_owned);
        process.user = Some(process.user_id).and_then(named);
        process.login_user = process.login_user_id.and_then(named);
    }
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

/// A name of somebody else's file.
fn name(text: &str) -> String {
    gate::cut(&gate::text(text), NAME_BYTES_MAX)
}

/// The id of the container that the lines of `/proc/PID/cgroup` tell of, and who made it.
fn container(lines: &str) -> Option<(String, Runtime)> {
    match workload::owner(workload::unified_path(lines)?) {
        CgroupOwner::Container { id, runtime, .. } => Some((id, runtime)),
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
        let (mut reader, mut users) = (Reader::new("processes"), Users::default());
        describe(&mut finding, "before", &mut reader, &mut users);
        assert_eq!(finding.process, Some(told));
        describe(&mut finding, "b", &mut reader, &mut users);
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
        // A child writes it: what another thread forks would hold it open, and nobody could start it.
        let copied = std::process::Command::new("cp").arg("/bin/bash").arg(&shell).status();
        assert!(copied.unwrap().success());
        let mut command = std::process::Command::new(&shell);
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let mut parent = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = line.trim().parse().unwrap();
        let told = |pid| {
            let mut finding = super::super::example_finding("w", "", 0);
            finding.process = Some(hedgerow_event::Process { pid, ..Default::default() });
            describe(&mut finding, "b", &mut Reader::new("processes"), &mut Users::default());
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
    fn users_are_named_also_of_a_process_that_is_gone_but_not_of_a_containers() {
        let (mut reader, mut known) = (Reader::new("processes"), Users::default());
        let mut users = |workload: &str, pid| {
            let mut finding = super::super::example_finding(workload, "", 0);
            finding.process = Some(hedgerow_event::Process {
                pid,
                start_boot_ns: u64::from(pid == u32::MAX),
                login_user_id: Some(0),
                ..Default::default()
            });
            describe(&mut finding, "b", &mut reader, &mut known);
            let process = finding.process.unwrap();
            (process.user, process.login_user)
        };
        let root = Some("root".to_owned());
        assert_eq!(users("web.service", u32::MAX), (root.clone(), root.clone()));
        assert_eq!(users("web.service", std::process::id()).1, root);
        for workload in ["k8s:shop/web/nginx", "image:nginx:1.27", "container"] {
            assert_eq!(users(workload, u32::MAX), (None, None), "{workload}");
        }
    }

    #[test]
    fn a_container_is_told_by_its_id_and_a_unit_is_none() {
        let id = "0123456789abcdef".repeat(4);
        let pod = format!(
            "12:cpu:/x\n0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n"
        );
        assert_eq!(container(&pod), Some((id, Runtime::Containerd)));
        assert_eq!(container("0::/system.slice/nginx.service\n"), None);
    }
}
