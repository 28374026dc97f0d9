//! What an operator's words mean to the kernel: peers, programs and workloads as targets of entries.

use std::{collections::BTreeSet, sync::Arc};

use hedgerow_event::{FileKey, Subject, Target, Workload};
use hedgerow_features::is_shell;
use hedgerow_responder::{is_deep, protected::named};

use super::{Daemon, seen::Sight};
use crate::{
    cli::Prefix,
    control::Deny,
    kubernetes::{Chosen, cgroups::PodCgroup},
    names,
};

/// Why nothing can be confined to what runs outside of all services.
pub(super) const ALL: &str = "host is the root cgroup, in which all workloads are; leave --workload out to mean \
                   all, or name a --peer and a --program";
/// Why no pod can be named.
const NOT_ASKED: &str = "the Kubernetes API is not asked, so that no pod can be named: set `[kubernetes] enabled` \
                         (docs/configuration.md), or name a --workload";
/// Processes of a cgroup that are looked at for where it lies.
const PROCESSES_MAX: usize = 64;

impl Daemon {
    /// What an operator's words mean to the kernel, and the names of the pods that are meant, where some were
    /// named.
    pub(super) fn targets(
        &self,
        asked: &Deny,
        pods: &[PodCgroup],
    ) -> Result<(Vec<Target>, Vec<String>), String> {
        let of_pods = asked.pod.is_some() || asked.selector.is_some();
        if let Some(user) = &asked.user {
            let others =
                asked.peer.is_some() || asked.program.is_some() || asked.workload.is_some();
            if others || of_pods {
                return Err("a user is denied alone".to_owned());
            }
            return self.user(user).map(|uid| (vec![Target::User { uid }], Vec::new()));
        }
        if asked.network && (asked.program.is_none() || asked.peer.is_some()) {
            return Err("--network is of a --program, whatever the peer".to_owned());
        }
        if of_pods {
            return self.of_pods(asked, pods);
        }
        self.of_others(asked).map(|targets| (targets, Vec::new()))
    }

    fn of_others(&self, asked: &Deny) -> Result<Vec<Target>, String> {
        let workload = self.workload_if(asked.workload.as_ref())?;
        let sights = match &asked.program {
            Some(program) => self.programs(program, workload.as_ref())?,
            None => Vec::new(),
        };
        let cgroups = workload.as_ref().map_or_else(BTreeSet::new, |one| self.seen.cgroups(one));
        if let (Some(workload), true) = (&workload, cgroups.is_empty()) {
            return Err(format!("nothing of {workload} ran since the daemon began"));
        }
        let targets: BTreeSet<Target> = match (asked.peer, &asked.program, &workload) {
            (None, None, None) => {
                return Err("name a peer, a program, a workload or a user to deny".to_owned());
            }
            (Some(prefix), None, None) => [peer(prefix, 0, 0)].into(),
            (Some(prefix), None, Some(_)) => {
                cgroups.iter().map(|cgroup| peer(prefix, *cgroup, 0)).collect()
            }
            (Some(prefix), Some(_), None) => {
                sights.iter().map(|sight| peer(prefix, 0, sight.program_id)).collect()
            }
            (Some(prefix), Some(_), Some(_)) => {
                sights.iter().map(|sight| peer(prefix, sight.cgroup_id, sight.program_id)).collect()
            }
            (None, Some(path), _) => {
                // Wherever it runs, where no workload is named.
                let everywhere = asked.network && workload.is_none();
                let cgroup = |sight: &Sight| if everywhere { 0 } else { sight.cgroup_id };
                let files = sights
                    .iter()
                    .map(|sight| self.program_of(sight, path, cgroup(sight), asked.network));
                files.collect::<Result<_, String>>()?
            }
            (None, None, Some(workload)) => {
                let path = workload.0.clone();
                let whole = |cgroup_id| Target::Cgroup { cgroup_id, path: path.clone() };
                cgroups.into_iter().map(whole).collect()
            }
        };
        if let Some(workload) = &workload {
            targets.iter().try_for_each(|target| self.confined(target, workload))?;
        }
        // All that a target meets is in one cgroup; who of them lives tells how deep it lies.
        let deep = |target: &&Target| {
            target.cgroup_id().is_some()
                && self.seen.met_by(target).take(PROCESSES_MAX).any(|sight| is_deep(sight.tgid))
        };
        match targets.iter().find(deep) {
            Some(target) => Err(format!(
                "{target}: its cgroup lies too deep, an entry would not hold for those below it; name a --peer \
                 and a --program and leave --workload out"
            )),
            None => Ok(targets.into_iter().collect()),
        }
    }

    /// The containers of pods that an order means, as they run now.
    fn of_pods(
        &self,
        asked: &Deny,
        found: &[PodCgroup],
    ) -> Result<(Vec<Target>, Vec<String>), String> {
        let kubernetes = self.kubernetes.as_ref().ok_or(NOT_ASKED)?;
        if asked.workload.is_some() {
            return Err("name pods or a workload, not both".to_owned());
        }
        let chosen = match (&asked.pod, &asked.selector, &asked.namespace) {
            (Some(pod), None, None) => kubernetes.chosen(&Chosen::Pod(pod))?,
            (None, Some(selector), Some(namespace)) => {
                kubernetes.chosen(&Chosen::Selector { selector, namespace })?
            }
            _ => return Err("name one --pod, or a --selector and its --namespace".to_owned()),
        };
        let (mut targets, mut met) = (BTreeSet::new(), Vec::new());
        for pod in &chosen {
            let of = found.iter().filter(|cgroup| cgroup.uid == pod.cgroup_uid);
            let before = targets.len();
            for cgroup in of {
                self.guarded(cgroup, asked.force)?;
                targets.extend(self.in_container(asked, &pod.name, cgroup.cgroup_id)?);
            }
            if targets.len() > before {
                met.push(pod.name.clone());
            } else if chosen.len() == 1 {
                return Err(match &asked.program {
                    Some(path) => {
                        format!("{path} did not run in pod {} since the daemon began", pod.name)
                    }
                    None => format!("pod {} has no container that runs here", pod.name),
                });
            }
        }
        if targets.is_empty() {
            return Err("none of the pods that are meant runs here, or runs that".to_owned());
        }
        Ok((targets.into_iter().collect(), met))
    }

    /// What an order means in the container of a pod.
    fn in_container(&self, asked: &Deny, pod: &str, cgroup_id: u64) -> Result<Vec<Target>, String> {
        let Some(path) = &asked.program else {
            let whole = Target::Cgroup { cgroup_id, path: format!("pod {pod}").into() };
            return Ok(vec![asked.peer.map_or(whole, |prefix| peer(prefix, cgroup_id, 0))]);
        };
        let sights = self.seen.programs(path, None);
        let of = sights.into_iter().filter(|sight| sight.cgroup_id == cgroup_id);
        of.map(|sight| match asked.peer {
            Some(prefix) => Ok(peer(prefix, cgroup_id, sight.program_id)),
            None => self.program_of(sight, path, cgroup_id, asked.network),
        })
        .collect()
    }

    /// Refuses what would not hold, and what the host stands on, also where it was not seen to do anything.
    fn guarded(&self, cgroup: &PodCgroup, force: bool) -> Result<(), String> {
        if cgroup.programs.iter().any(|(pid, _)| is_deep(*pid)) {
            return Err(format!(
                "a cgroup of pod {} lies too deep, an entry would not hold for those below it",
                cgroup.uid
            ));
        }
        let what = cgroup.programs.iter().find_map(|(_, path)| Some((path, named(path)?)));
        match what.filter(|_| !force) {
            Some((path, what)) => {
                Err(format!("protected: it meets {what} ({path}); --force denies it all the same"))
            }
            None => Ok(()),
        }
    }

    fn program_of(
        &self,
        sight: &Sight,
        path: &str,
        cgroup_id: u64,
        network: bool,
    ) -> Result<Target, String> {
        let (file, path) = self.program(sight, path)?;
        Ok(Target::Program { cgroup_id, file, path, network })
    }

    /// Refuses what would meet other workloads than the one that was named: an entry or allowance of a
    /// cgroup is of all that runs in it and below it.
    pub(super) fn confined(&self, target: &Target, workload: &Workload) -> Result<(), String> {
        // One program's peer is told apart by the program, which is of one workload.
        if matches!(target, Target::Peer { program_id, .. } if *program_id != 0) {
            return Ok(());
        }
        if *workload == Workload::host() {
            return Err(ALL.to_owned());
        }
        match self.seen.met(target, workload) {
            Some(other) => Err(format!(
                "{workload} shares a cgroup with {other}, which it would meet, too; name a --peer and \
                 a --program of it, or leave --workload out to mean all"
            )),
            None => Ok(()),
        }
    }

    /// Refuses what would stop logins, or what the host stands on: a whole session or service with such a program,
    /// the program itself, and a shell that somebody who logged in runs.
    pub(super) fn spared(&self, target: &Target) -> Result<(), String> {
        let whole = match target {
            Target::Cgroup { .. } => true,
            Target::Program { .. } => false,
            Target::Peer { .. } | Target::TaskTree { .. } | Target::User { .. } => return Ok(()),
        };
        spared_of(self.seen.met_by(target), whole)
    }

    fn programs(&self, path: &str, workload: Option<&Workload>) -> Result<Vec<&Sight>, String> {
        let sights = self.seen.programs(path, workload);
        if sights.is_empty() {
            names::ran(path, self.seen.paths())?;
            return Err(format!("{path} did not run there since the daemon began"));
        }
        Ok(sights)
    }

    /// The id of a user that somebody typed.
    fn user(&self, word: &str) -> Result<u32, String> {
        let users = self.responder()?.protected().users();
        let users = users.ok_or("who is who on this host is not read yet; try again")?;
        users.id(word).ok_or_else(|| {
            let word = hedgerow_event::gate::text(word);
            format!("/etc/passwd has no user {word}; one whom another service knows has a number")
        })
    }

    fn program(&self, sight: &Sight, path: &str) -> Result<(FileKey, Arc<str>), String> {
        let file = match sight.file {
            Some(file) => Some(file),
            None => {
                let program = self.responder()?.program_of(sight.tgid);
                let program = program.map_err(|why| why.to_string())?;
                program.filter(|(id, _)| *id == sight.program_id).map(|(_, file)| file)
            }
        };
        let file = file.ok_or_else(|| {
            format!("{path} began before the daemon and ended; its file is not known")
        })?;
        // Of a script it is the interpreter, with all that it runs there.
        let path = Arc::clone(&sight.subject.program.path);
        Ok((file, path))
    }
}

fn peer(Prefix { address, length }: Prefix, cgroup_id: u64, program_id: u64) -> Target {
    Target::Peer { address, prefix_length: length, cgroup_id, program_id }
}

/// Whether nobody among them is to be spared, where all of the cgroup is meant or the program alone.
fn spared_of<'a>(met: impl Iterator<Item = &'a Sight>, whole: bool) -> Result<(), String> {
    for sight in met {
        let Subject { workload, program, .. } = &*sight.subject;
        let is_login = workload.is_session() && (whole || is_shell(&program.path));
        let paths = [Some(&*program.path), program.script_path()];
        let what = paths.into_iter().flatten().find_map(named);
        if let Some(what) = what.or(is_login.then_some("a login session")) {
            return Err(format!(
                "protected: it meets {what} ({program} in {workload}); --force denies it all the same"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hedgerow_event::Program;

    use super::*;

    #[test]
    fn logins_and_what_the_host_stands_on_are_spared_scripts_too() {
        let met = |workload: &str, path: &str, script: Option<&str>, whole| {
            let program = Program { path: path.into(), script: script.map(Into::into) };
            let subject = Arc::new(Subject::new(Workload::new(workload), program));
            let sight = Sight { subject, cgroup_id: 7, program_id: 1, tgid: 1, file: None };
            spared_of([&sight].into_iter(), whole)
        };
        let session = "user-1000.slice/session.scope";
        assert!(met("ssh.service", "/usr/sbin/sshd", None, true).is_err());
        assert!(met("dnf.service", "/usr/bin/python3", Some("/usr/bin/dnf"), true).is_err());
        assert!(met(session, "/usr/bin/bash", Some("/root/job.sh"), false).is_err());
        assert!(met(session, "/usr/bin/curl", None, true).is_err());
        assert!(met(session, "/usr/bin/curl", None, false).is_ok());
        assert!(met("web.service", "/usr/bin/bash", None, true).is_ok());
    }
}
