//! What the daemon answers to commands.

use std::collections::BTreeSet;

use hedgerow_detect::{EPOCH_SECONDS, Paused};
use hedgerow_event::{Action, Finding, Mode, Remediation, Target, Workload};
use hedgerow_responder::{By, Request as Order, Responder, ledger::Decision, now, policy};

use super::{Daemon, targets::ALL};
use crate::{
    cli::Prefix,
    control::{
        Allow, Allowance, Allowances, Armed, Ask, Blamed, Denied, Deny, Entries, Judge, Judged,
        Maintain, Maintenances, ModelNow, Modes, Remove, Removed, Reply, Request, SetMode, Which,
        Word, WorkloadMode,
    },
    host::MODEL,
    kubernetes::cgroups::PodCgroup,
    names, text,
};

const NS_PER_S: i64 = 1_000_000_000;
/// The longest that maintenance, a mute or an allowance with an end may last: ten years.
const SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// An answer of the type that the request is declared with.
fn reply<A: Ask>(_: &A, done: Result<A::Answer, String>) -> Reply {
    done.and_then(|answer| serde_json::to_value(answer).map_err(|why| why.to_string()))
}

impl Daemon {
    pub(super) fn answer(&mut self, request: &Request, by: By, pods: &[PodCgroup]) -> Reply {
        self.follow_clock();
        if let Some(responder) = &mut self.actor.responder {
            responder.ordered_by(Some(by));
        }
        let answered = match request {
            Request::GetStatus(asked) => reply(asked, Ok(self.whole_status())),
            Request::GetEntries(asked) => reply(asked, Ok(self.entries())),
            Request::Deny(asked) => reply(asked, self.deny(asked, pods)),
            Request::Remove(asked) => reply(asked, self.remove(asked)),
            Request::Allow(asked) => reply(asked, self.allow(asked)),
            Request::GetAllowed(asked) => reply(asked, self.allowances()),
            Request::GetModes(asked) => reply(asked, self.modes()),
            Request::SetMode(asked) => reply(asked, self.set_mode(asked)),
            Request::Arm(asked) => reply(asked, self.arm_again()),
            Request::Maintain(asked) => reply(asked, self.maintain(asked, by)),
            Request::Judge(asked) => reply(asked, self.judge(asked, by)),
            Request::GetModel(asked) => reply(asked, self.model_now()),
            Request::Probe(asked) => reply(asked, self.expect_probes(by)),
        };
        if let Some(responder) = &mut self.actor.responder {
            responder.ordered_by(None);
        }
        // Whoever only reads must not make decisions wait for the disk.
        if !request.only_reads() {
            self.kept.settle_orders(&mut self.reporter);
        }
        self.raise();
        answered
    }

    pub(super) fn responder(&self) -> Result<&Responder, String> {
        self.actor.asked()
    }

    fn responder_mut(&mut self) -> Result<&mut Responder, String> {
        self.actor.operated()
    }

    /// Every workload that anything is known of.
    fn workloads(&self) -> BTreeSet<Workload> {
        let mut all: BTreeSet<Workload> = self.seen.workloads().cloned().collect();
        if let Some(responder) = &self.actor.responder {
            all.extend(responder.coverage().workloads().cloned());
            all.extend(responder.modes().keys().cloned());
            all.extend(responder.tripped().into_iter().cloned());
        }
        all.insert(Workload::host());
        all
    }

    /// The workload of a name that somebody typed.
    fn workload(&self, name: &str) -> Result<Workload, String> {
        let all = self.workloads();
        names::known("workload", name, all.iter().map(Workload::as_str))?;
        Ok(Workload::new(name))
    }

    pub(super) fn workload_if(&self, name: Option<&String>) -> Result<Option<Workload>, String> {
        name.map(|name| self.workload(name)).transpose()
    }

    fn entries(&self) -> Entries {
        let Ok(responder) = self.responder() else { return Entries::default() };
        Entries {
            live: responder.entries().iter().map(|entry| entry.listed()).collect(),
            held: responder.holds().to_vec(),
            armed: responder.is_armed().ok(),
        }
    }

    fn deny(&mut self, asked: &Deny, pods: &[PodCgroup]) -> Result<Denied, String> {
        let (targets, pods) = self.targets(asked, pods)?;
        let reason = asked.reason.as_deref().map(hedgerow_event::gate::text);
        let reason = reason.unwrap_or_else(|| "an operator said so".to_owned());
        let users = asked.peer.map(|peer| self.seen.users(peer)).unwrap_or_default();
        let order = |target: &Target| Order {
            target: target.clone(),
            rule: hedgerow_event::Rule::Operator,
            seconds: asked.seconds,
            finding_uid: None,
            process: None,
            subject: None,
            mode: Some(Mode::Enforce),
            reason: reason.clone(),
        };
        for target in &targets {
            self.actor.guard(target, asked.force)?;
            if !asked.force {
                self.spared(target)?;
            }
            if asked.dry_run {
                let would = self.responder_mut()?.would_deny(order(target));
                would.map_err(|why| why.to_string())?;
            }
        }
        let mut entries = Vec::new();
        for target in targets.iter().filter(|_| !asked.dry_run) {
            entries.push(self.actor.deny(order(target), &mut self.reporter)?);
        }
        Ok(Denied { entries, targets, pods, used_by: users.workloads, used_by_more: users.more })
    }

    fn remove(&mut self, asked: &Remove) -> Result<Removed, String> {
        let uids = self.named(asked)?;
        let mut removed = Removed::default();
        for uid in uids {
            if asked.wrong {
                let wronged = self.actor.wrong(&uid, &mut self.reporter)?;
                let unblocked = |report: &&Remediation| report.action == Action::Unblock;
                removed.lifted.extend(wronged.reports.iter().filter(unblocked).cloned());
                removed.wrong.push(Blamed {
                    workload: wronged.workload,
                    mode: wronged.mode,
                    counted: wronged.counted,
                    budget: wronged.budget,
                });
                continue;
            }
            match self.actor.remove(&uid, &mut self.reporter)? {
                Some(lifted) => removed.lifted.push(lifted),
                None => removed.withdrawn.push(uid),
            }
        }
        Ok(removed)
    }

    /// Uids of the entries that are meant.
    fn named(&self, asked: &Remove) -> Result<Vec<String>, String> {
        let Entries { live, held, .. } = self.entries();
        let of = |entry: &Remediation| match &entry.subject {
            Some(subject) => Some(subject.workload.clone()),
            None => self.seen.whose(&entry.target).cloned(),
        };
        let live = live.iter().map(|entry| (&entry.uid, of(entry), entry.rule));
        let held = held.iter().map(|hold| (&hold.uid, Some(hold.workload()), hold.rule));
        let automatic = |rule| !asked.wrong || rule != hedgerow_event::Rule::Operator;
        let all: Vec<(&String, Option<Workload>)> = live
            .chain(held)
            .filter(|(_, _, rule)| matches!(asked.which, Which::Uid(_)) || automatic(*rule))
            .map(|(uid, workload, _)| (uid, workload))
            .collect();
        match &asked.which {
            Which::Uid(begun) => {
                let whole = names::begun("an entry", begun, all.iter().map(|(uid, _)| &***uid));
                match whole {
                    Ok(uid) => Ok(vec![uid.to_owned()]),
                    // An entry that ended is the ledger's to know.
                    Err(_) if asked.wrong && !all.iter().any(|(uid, _)| uid.starts_with(begun)) => {
                        Ok(vec![begun.clone()])
                    }
                    Err(why) => Err(why),
                }
            }
            Which::Workload(name) => {
                let workload = self.workload(name)?;
                let of = all.into_iter().filter(|(_, own)| own.as_ref() == Some(&workload));
                Ok(of.map(|(uid, _)| uid.clone()).collect())
            }
            Which::All => Ok(all.into_iter().map(|(uid, _)| uid.clone()).collect()),
        }
    }

    fn allow(&mut self, asked: &Allow) -> Result<Allowances, String> {
        let workload = self.workload_if(asked.workload.as_ref())?;
        let until_ns = asked.seconds.map(until).transpose()?;
        let allowance = Allowance { peer: asked.peer, workload, until_ns };
        if asked.allowed {
            if let Some(workload) = &allowance.workload {
                if *workload == Workload::host() {
                    return Err(ALL.to_owned());
                }
                let cgroups = self.seen.cgroups(workload);
                let mut targets = cgroups.iter().map(|cgroup| peer_in(asked.peer, *cgroup));
                targets.try_for_each(|target| self.confined(&target, workload))?;
            }
            self.set_allowed(&allowance, true)?;
            self.orders.allow(allowance)?;
        } else {
            let was = self.orders.disallow(&allowance);
            let standing = self.allowances()?.allowed;
            let same = |one: &Allowance| {
                one.peer.same(&allowance.peer) && one.workload == allowance.workload
            };
            if !was && !standing.iter().any(same) {
                let whom = allowance.workload.as_ref().map_or("all", Workload::as_str);
                return Err(format!(
                    "{} is not allowed to {whom}; `hedgerow allow list` shows what is",
                    asked.peer
                ));
            }
            self.set_allowed(&allowance, false)?;
        }
        self.keep_orders();
        self.allowances()
    }

    /// Tells the kernel, in each cgroup of the workload.
    pub(super) fn set_allowed(&mut self, one: &Allowance, allowed: bool) -> Result<(), String> {
        let cgroups = match &one.workload {
            Some(workload) => self.seen.cgroups(workload),
            None => [0].into(),
        };
        for cgroup_id in cgroups {
            self.allow_in(one.peer, cgroup_id, allowed)?;
        }
        Ok(())
    }

    fn allow_in(&mut self, peer: Prefix, cgroup_id: u64, allowed: bool) -> Result<(), String> {
        let target = peer_in(peer, cgroup_id);
        self.responder_mut()?.allow(target, allowed).map_err(|why| why.to_string())
    }

    /// A workload runs in a cgroup that it was not seen in before, as after a restart: what is allowed
    /// to it is allowed there.
    pub(super) fn allow_anew(&mut self, workload: &Workload, cgroup_id: u64) {
        let of = self.orders.allowed.iter().filter(|one| one.workload.as_ref() == Some(workload));
        let peers: Vec<Prefix> = of.map(|one| one.peer).collect();
        for peer in peers {
            let confined = self.confined(&peer_in(peer, cgroup_id), workload);
            if let Err(why) = confined.and_then(|()| self.allow_in(peer, cgroup_id, true)) {
                self.reporter.warn(&format!("{peer} is not allowed to {workload}: {why}"));
            }
        }
    }

    fn allowances(&self) -> Result<Allowances, String> {
        let mut allowed = self.orders.allowed.clone();
        for target in self.responder()?.allowed() {
            let Target::Peer { address, prefix_length, cgroup_id: 0, .. } = target else {
                continue;
            };
            let peer = Prefix { address: *address, length: *prefix_length };
            if !allowed.iter().any(|one| one.workload.is_none() && one.peer.same(&peer)) {
                allowed.push(Allowance { peer, workload: None, until_ns: None });
            }
        }
        Ok(Allowances { allowed })
    }

    /// What was ordered, what it comes to now, and what is missing for it.
    pub(super) fn modes(&self) -> Result<Modes, String> {
        let responder = self.responder()?;
        let now = now();
        let coverage = responder.coverage();
        let workloads: BTreeSet<&Workload> =
            coverage.workloads().chain(responder.modes().keys()).collect();
        let workloads = workloads.into_iter().map(|workload| {
            let state = self.engine.state_of_workload(workload);
            let covered = coverage.of(workload, now.wall_ns);
            let missing = policy::missing(state, covered);
            let mode = responder.mode(workload);
            let held = !self.config.enforce_provisional && !missing.is_empty();
            WorkloadMode {
                workload: workload.clone(),
                mode,
                own: responder.modes().contains_key(workload),
                in_force: if held { mode.min(Mode::Monitor) } else { mode },
                missing: missing.iter().map(ToString::to_string).collect(),
                days: covered.days,
                hours: covered.hours,
            }
        });
        Ok(Modes {
            mode: responder.default_mode(),
            armed: responder.is_armed().map_err(|why| why.to_string())?,
            enforce_provisional: self.config.enforce_provisional,
            halted: responder.halted(now).map(|why| why.to_string()),
            tripped: responder.tripped().into_iter().cloned().collect(),
            workloads: workloads.collect(),
        })
    }

    fn set_mode(&mut self, asked: &SetMode) -> Result<Modes, String> {
        let workload = self.workload_if(asked.workload.as_ref())?;
        self.actor.set_mode(workload, asked.mode, &mut self.reporter)?;
        self.modes()
    }

    fn arm_again(&mut self) -> Result<Armed, String> {
        let responder = self.responder_mut()?;
        responder.arm().map_err(|why| why.to_string())?;
        Ok(Armed { armed: responder.is_armed().map_err(|why| why.to_string())? })
    }

    fn maintain(&mut self, asked: &Maintain, by: By) -> Result<Maintenances, String> {
        let workload = self.workload_if(asked.workload.as_ref())?;
        let until_ns = asked.seconds.map(until).transpose()?;
        let whose = workload.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
        let was = self.orders.maintain(workload.clone(), until_ns, by);
        if until_ns.is_none() && !was {
            return Err(
                "there is no such maintenance; `hedgerow status` shows what there is".into()
            );
        }
        if let Some(responder) = &mut self.actor.responder {
            let order = Decision::Maintenance { workload: whose, until_ns };
            responder.record_order(order);
            // What waits would be installed meanwhile.
            let held: Vec<String> = responder
                .holds()
                .iter()
                .filter(|hold| workload.as_ref().is_none_or(|own| *own == hold.workload()))
                .map(|hold| hold.uid.clone())
                .collect();
            for uid in held.iter().filter(|_| until_ns.is_some()) {
                responder.put_off(uid, "maintenance began");
            }
        }
        self.orders_changed();
        Ok(Maintenances { maintenance: self.orders.maintenance.clone() })
    }

    fn judge(&mut self, asked: &Judge, by: By) -> Result<Judged, String> {
        let finding: &Finding = &asked.finding;
        let uid = finding.uid.clone();
        let until_ns = match asked.word {
            Word::Mute { seconds } => Some(until(seconds)?),
            Word::Ack | Word::Attack | Word::Accept => None,
        };
        let word = match asked.word {
            Word::Ack => "ack",
            Word::Attack => "attack",
            Word::Mute { .. } => "mute",
            Word::Accept => "accept",
        };
        if let Some(until_ns) = until_ns {
            self.orders.mute(finding, until_ns, by)?;
        }
        // Whatever is said of it, it was seen.
        self.orders.ack(&uid, now().wall_ns, by, asked.word == Word::Attack);
        let mut taken_out = 0;
        match asked.word {
            Word::Accept => self.engine.accept(finding),
            Word::Attack => taken_out = self.engine.confirm([uid.as_str()]),
            Word::Ack | Word::Mute { .. } => {}
        }
        self.keep_orders();
        if let Some(responder) = &mut self.actor.responder {
            let finding_uid = uid.clone();
            let order = Decision::Finding { finding_uid, word: word.to_owned(), until_ns };
            responder.record_order(order);
        }
        // Last: a disk that takes no model takes no word back.
        if matches!(asked.word, Word::Accept | Word::Attack) {
            self.save().map_err(|why| format!("{why:#}"))?;
        }
        Ok(Judged { uid, word: asked.word, objects: finding.objects.clone(), taken_out })
    }

    /// The command works on the file: the loop has no time for what it works out.
    fn model_now(&mut self) -> Result<ModelNow, String> {
        // A command may run in another directory.
        let state = std::path::absolute(&self.config.state).map_err(|why| why.to_string())?;
        let path = state.join(MODEL);
        if !self.kept.model_is_awaited() {
            let saved = self.engine.save().map_err(|why| why.to_string())?;
            let model = saved.ok_or_else(|| {
                let left = u64::from(self.engine.epochs_left()) * EPOCH_SECONDS;
                format!("nothing is judged yet: it learns for {} more", text::seconds(left))
            })?;
            self.kept.model(model, path.clone());
        }
        let written = self.kept.model_is_there(&mut self.engine)?;
        let budget_per_day = self.config.budget_per_day;
        Ok(ModelNow { path, written, now_boot_ns: now().boot_ns, budget_per_day })
    }

    /// Orders hold as long as was said, also where the clock is set.
    fn follow_clock(&mut self) {
        if self.orders.follow(now()) {
            self.keep_orders();
        }
    }

    /// Ends what is over.
    pub(super) fn expire_orders(&mut self) {
        self.follow_clock();
        let Some(over) = self.orders.expire(now().wall_ns) else { return };
        for allowance in over {
            if let Err(why) = self.set_allowed(&allowance, false) {
                self.reporter.warn(&format!("{} stays allowed: {why}", allowance.peer));
            }
        }
        self.orders_changed();
    }

    /// Makes the engine follow the orders, and keeps them.
    pub(super) fn orders_changed(&mut self) {
        let mut paused = Paused::default();
        for one in &self.orders.maintenance {
            match &one.workload {
                Some(workload) => paused.workloads.insert(workload.clone()),
                None => std::mem::replace(&mut paused.all, true),
            };
        }
        self.engine.pause(paused);
        self.keep_orders();
    }

    fn keep_orders(&mut self) {
        self.kept.orders(self.orders.clone());
    }
}

/// An address for all programs of a cgroup.
fn peer_in(peer: Prefix, cgroup_id: u64) -> Target {
    let Prefix { address, length } = peer;
    Target::Peer { address, prefix_length: length, cgroup_id, program_id: 0 }
}

/// Wall time so many seconds from now.
fn until(seconds: u64) -> Result<i64, String> {
    if seconds == 0 || seconds > SECONDS_MAX {
        return Err(format!("{seconds} s is not a time from 1 s to ten years"));
    }
    let ns = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(NS_PER_S);
    Ok(now().wall_ns.saturating_add(ns))
}
