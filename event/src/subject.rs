//! Who is who: workload, program, subject.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A systemd unit without instance and session numbers, a pod's (namespace, owner, container), or a
/// container's image. A process in no unit belongs to the service at the root of its lineage, named
/// by the program (`/usr/sbin/nginx`, with the script that an interpreter runs), or to a login
/// session (`login:UID`); what can't be resolved is `host`. Stable over restarts: never a cgroup
/// id, a container hash, a pod uid or a session's number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workload(pub Arc<str>);

impl Workload {
    /// The workload of the host's own counters, and of processes whose service can't be resolved.
    pub const HOST: &'static str = "host";
    const LOGIN: &'static str = "login:";

    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
    pub fn host() -> Self {
        Self::new(Self::HOST)
    }
    /// Login sessions of a user, by the kernel's login uid.
    pub fn login(uid: u32) -> Self {
        Self::new(format!("{}{uid}", Self::LOGIN))
    }
    pub fn is_login(&self) -> bool {
        self.0.starts_with(Self::LOGIN)
    }
    /// Whether it is the session of a person who logged in: `login:UID`, a session's scope
    /// (`session-12.scope` with its number stripped), or the user's own service manager. What lies below
    /// another unit is none, whatever it is called, and neither is a service in no unit, whose
    /// program's path anybody may have chosen.
    pub fn is_session(&self) -> bool {
        let (above, unit) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        let is_own = above.is_empty() || above.split('/').all(|part| part.ends_with(".slice"));
        let is_scope = unit.starts_with("session") && unit.ends_with(".scope");
        let is_manager = above.is_empty() && unit.starts_with("user@");
        !self.0.starts_with('/') && (self.is_login() || is_own && is_scope || is_manager)
    }
    /// Whether its login uid was set by a login: its own session, or an application that the user's
    /// service manager runs for it.
    pub fn is_of_login(&self) -> bool {
        let application = self.0.split_once('/').is_some_and(|(manager, unit)| {
            manager.starts_with("user@") && unit.ends_with(".scope")
        });
        self.is_session() || application
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whose it is: what stands below a user's manager or a container without an id are names that he
    /// makes, as many as he likes, and they share what one workload may take.
    pub fn owner(&self) -> &str {
        match self.0.split_once('/') {
            // Neither a program's path nor a container by its name.
            Some((head, _)) if !head.is_empty() && !head.contains(':') => head,
            _ => &self.0,
        }
    }
    /// Who may have as many owners as he likes: a user with all of his logins, a namespace of Kubernetes, whoever
    /// else runs containers. Anybody else is his own.
    pub fn tenant(&self) -> &str {
        let owner = self.owner();
        let uid =
            |name: &'static str, end: &'static str| owner.strip_prefix(name)?.strip_suffix(end);
        let user = [(Self::LOGIN, ""), ("user@", ".service"), ("user-", ".slice")];
        if let Some(uid) = user.into_iter().find_map(|(name, end)| uid(name, end)) {
            return uid;
        }
        match owner.split_once(':') {
            Some((image @ "image", _)) => image,
            Some(("k8s", _)) => owner.split('/').next().unwrap_or(owner),
            _ => owner,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a program's file, as lower-case hexadecimal where it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a digest is 64 hex digits"))
    }
}

impl Digest {
    /// Parses 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut digest = [0u8; 32];
        for (out, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *out = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(digest))
    }
}

/// What runs: the path in the process's own mount namespace (`memfd` for anonymous files), the
/// script where an interpreter runs one. `ld.so ./prog` is `prog`; busybox is its applet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Program {
    pub path: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Arc<str>>,
}

impl Program {
    pub fn new(path: impl Into<Arc<str>>) -> Self {
        Self { path: path.into(), script: None }
    }

    /// The script's absolute path, where it was named by one: a relative one, program text (`-c`),
    /// a module and an applet name no file.
    pub fn script_path(&self) -> Option<&str> {
        self.script.as_deref().filter(|script| script.starts_with('/'))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.script {
            Some(script) => write!(f, "{} {script}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// What is windowed and scored: a program within a workload. The digest is an attribute of the
/// program's profile, not of its name: a replaced binary is the same subject, reported as replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    pub workload: Workload,
    pub program: Program,
}

impl Subject {
    /// The program name under which rare subjects of a workload are merged.
    pub const OTHER: &'static str = "(other)";
    /// The program name of the host-wide subject.
    pub const KERNEL: &'static str = "(kernel)";

    pub fn new(workload: Workload, program: Program) -> Self {
        Self { workload, program }
    }
    /// The host itself, whose window carries floods and other counters of no process.
    pub fn host() -> Self {
        Self::new(Workload::host(), Program::new(Self::KERNEL))
    }
    /// Where subjects merge once a window holds too many.
    pub fn other(workload: Workload) -> Self {
        Self::new(workload, Program::new(Self::OTHER))
    }
    pub fn is_host(&self) -> bool {
        &*self.program.path == Self::KERNEL
    }
    /// As it is displayed, made at once: it is what tables are looked up by for each window.
    pub fn text(&self) -> String {
        let Self { workload, program } = self;
        let script = program.script.as_deref();
        let length = workload.0.len() + program.path.len() + script.map_or(0, str::len) + 2;
        let mut text = String::with_capacity(length);
        text.push_str(&workload.0);
        text.push(':');
        text.push_str(&program.path);
        if let Some(script) = script {
            text.push(' ');
            text.push_str(script);
        }
        text
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_somebody_names_below_his_own_cgroup_is_his() {
        for (name, whose, tenant) in [
            ("user@1000.service/a:b.service", "user@1000.service", "1000"),
            ("lxc.payload.c1/a.service", "lxc.payload.c1", "lxc.payload.c1"),
            ("user-1000.slice/session.scope", "user-1000.slice", "1000"),
            ("web.service", "web.service", "web.service"),
            ("/usr/sbin/nginx", "/usr/sbin/nginx", "/usr/sbin/nginx"),
            ("/srv/image:k8s:x/y", "/srv/image:k8s:x/y", "/srv/image:k8s:x/y"),
            ("k8s:shop/web/client", "k8s:shop/web/client", "k8s:shop"),
            ("image:library/nginx:1", "image:library/nginx:1", "image"),
            ("login:1000", "login:1000", "1000"),
        ] {
            let workload = Workload::new(name);
            assert_eq!((workload.owner(), workload.tenant()), (whose, tenant));
        }
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Digest([0xa5; 32]);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{}\"", "a5".repeat(32)));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert!(Digest::parse("a5").is_none());
        assert!(Digest::parse(&"g".repeat(64)).is_none());
    }

    #[test]
    fn a_session_is_called_like_one_and_lies_below_nothing_else() {
        for (name, session, login) in [
            ("login:1000", true, true),
            ("session.scope", true, true),
            ("user-1000.slice/session.scope", true, true),
            ("user@1000.service", true, true),
            ("user@1000.service/app-firefox.scope", false, true),
            ("user@1000.service/web.service", false, false),
            ("web.service", false, false),
            ("web.service/session.scope", false, false),
            ("web.service/user-0.slice/session.scope", false, false),
            ("web.service/user@0.service", false, false),
            ("lxc.payload.web/user@0.service/app.scope", false, false),
            ("/srv/session.scope", false, false),
            ("/session.scope", false, false),
            ("host", false, false),
        ] {
            let workload = Workload::new(name);
            assert_eq!((workload.is_session(), workload.is_of_login()), (session, login), "{name}");
        }
    }

    #[test]
    fn a_subject_reads_as_workload_and_program() {
        let mut program = Program::new("/usr/bin/python3");
        program.script = Some("/srv/app.py".into());
        let subject = Subject::new(Workload::new("web.service"), program);
        assert_eq!(subject.to_string(), "web.service:/usr/bin/python3 /srv/app.py");
        assert_eq!(Subject::host().text(), "host:(kernel)");
    }
}
