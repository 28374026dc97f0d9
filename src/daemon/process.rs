//! Who did it, read from `/proc` and without its secrets.

use std::{fs, path::Path};

use hedgerow_event::Finding;

/// Ancestors told, nearest first.
const ANCESTORS_MAX: usize = 16;
/// Longest command line told.
const COMMAND_MAX: usize = 1024;
/// Words whose next word, or whose part behind `=` or `:`, is a secret.
const SECRETS: [&str; 10] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "private-key",
];

/// Fills in what a finding can say of its process, and takes the secrets out.
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
        process.command_line = String::from_utf8_lossy(&command).replace('\0', " ");
    }
    process.command_line = redacted(&process.command_line.replace('\0', " "));
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

/// A command line without passwords: values of secret-sounding options and assignments, and the
/// password of a URL, become `***`.
pub fn redacted(command: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut hide_next = false;
    for word in command.split_whitespace() {
        if std::mem::take(&mut hide_next) {
            words.push("***".to_owned());
            continue;
        }
        let lower = word.to_ascii_lowercase();
        let names_secret = |text: &str| SECRETS.iter().any(|secret| text.contains(secret));
        if let Some(at) = word.find(['=', ':']).filter(|at| names_secret(&lower[..*at])) {
            words.push(format!("{}***", &word[..=at]));
        } else if word.starts_with('-') && names_secret(&lower) {
            hide_next = true;
            words.push(word.to_owned());
        } else {
            words.push(url_redacted(word));
        }
    }
    let mut line = words.join(" ");
    if line.len() > COMMAND_MAX {
        let cut = (0..=COMMAND_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn url_redacted(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some((login, host)) = rest[..end].rsplit_once('@') else { return word.to_owned() };
    let Some((user, _)) = login.split_once(':') else { return word.to_owned() };
    format!("{scheme}://{user}:***@{host}{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out() {
        for (given, told) in [
            ("psql postgres://me:s3cret@db/x", "psql postgres://me:***@db/x"),
            ("curl --token abc http://h/", "curl --token *** http://h/"),
            ("env PASSWORD=abc run", "env PASSWORD=*** run"),
            ("curl -H Api-Key:abc", "curl -H Api-Key:***"),
            ("ls -l /tmp", "ls -l /tmp"),
        ] {
            assert_eq!(redacted(given), told);
        }
        let long = "é".repeat(2000);
        assert!(redacted(&long).len() <= COMMAND_MAX + '…'.len_utf8());
    }
}
