//! Entries as they would have come, been hit and gone.

mod admit;
mod live;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hedgerow_event::{
    Activity, Event, Evidence, FileKey, Finding, FlowDirection, FlowPhase, Mode, Origin, Rule,
    Subject, Target, Verdict, Workload,
};
use hedgerow_features::Window;
use hedgerow_responder::{
    Breaker, Limits, Now, Refusal, Request,
    coverage::Coverage,
    entry::{Due, Entry},
    grounds::Grounds,
    hold::is_narrow,
    policy::{self, Context, Offenders},
    protected::ProtectedSet,
    spent::Spent,
};

use self::live::{Live, level};
use super::{Backtest, Cut, Decided, Missing, Policy, Stood};
use crate::{
    labels::Label,
    trees::{ProcessKey, Trees},
};

const EPOCH_S: u32 = hedgerow_detect::EPOCH_SECONDS as u32;
/// A wide entry is held for so long before it is installed.
const HOLD_S: u64 = 60;
const NS_PER_S: u64 = 1_000_000_000;
/// Processes whose parents are remembered, and peers and files that were used before; the rest is
/// taken for new.
const PROCESSES_MAX: usize = 1 << 18;
const PAST_MAX: usize = 1 << 20;
/// Somebody cut is told apart so far.
const CUTS_MAX: usize = 4096;

/// One host's entries while its capture is played.
pub(super) struct Simulation<'a> {
    policy: &'a Policy,
    host: String,
    labels: Option<&'a [Label]>,
    trees: Trees,
    missing: &'static [Missing],
    protected: ProtectedSet,
    /// What is still to come of what the responder's decisions rested on, and what holds of it.
    to_come: VecDeque<(u64, Grounds)>,
    grounds: Option<Grounds>,
    /// Network namespaces of processes, by their flows.
    namespaces: HashMap<ProcessKey, u64>,
    coverage: Coverage,
    offenders: Offenders,
    limits: Limits,
    breaker: Breaker,
    spent: Spent,
    live: Vec<Live>,
    done: Vec<Stood>,
    findings: Vec<Decided>,
    /// Workloads with a mode of their own in the policy that were there.
    met: BTreeSet<Workload>,
    parents: HashMap<ProcessKey, ProcessKey>,
    /// Peers and files that a program used, before any entry stood against it.
    past: HashSet<(Arc<Subject>, std::net::IpAddr)>,
    ran: HashSet<(Workload, FileKey)>,
    /// Processes that an entry would have cut, with what they forked.
    cut: HashSet<ProcessKey>,
    now_boot_ns: u64,
    realtime_offset_ns: i64,
    epochs: u64,
}

impl<'a> Simulation<'a> {
    pub fn new(
        policy: &'a Policy,
        host: &str,
        labels: Option<&'a [Label]>,
    ) -> Result<Self, String> {
        Ok(Self {
            policy,
            host: host.to_owned(),
            labels,
            trees: Trees::of(host, labels.unwrap_or_default()),
            missing: &[],
            protected: policy.protected()?,
            to_come: VecDeque::new(),
            grounds: None,
            namespaces: HashMap::new(),
            coverage: Coverage::default(),
            offenders: Offenders::default(),
            limits: Limits::default(),
            breaker: Breaker::default(),
            spent: Spent::default(),
            live: Vec::new(),
            done: Vec::new(),
            findings: Vec::new(),
            met: BTreeSet::new(),
            parents: HashMap::new(),
            past: HashSet::new(),
            ran: HashSet::new(),
            cut: HashSet::new(),
            now_boot_ns: 0,
            realtime_offset_ns: 0,
            epochs: 0,
        })
    }

    /// Takes what the responder's decisions rested on, by time. The first holds from the beginning.
    pub fn rest_on(&mut self, grounds: Vec<(u64, Grounds)>) {
        self.to_come = grounds.into();
        if let Some((_, first)) = self.to_come.pop_front() {
            self.stand_on(first);
        }
    }

    pub fn misses(&mut self, missing: &'static [Missing]) {
        self.missing = missing;
    }

    fn stand_on(&mut self, mut grounds: Grounds) {
        if let Some(seen) = grounds.seen.take() {
            seen.recall(&mut self.coverage, &mut self.protected);
        }
        self.protected.set_facts(&grounds.facts);
        // What the policy names stays beside it; it was read before.
        drop(self.policy.protect(&mut self.protected));
        for workload in &grounds.tripped {
            self.breaker.trip(workload);
        }
        self.grounds = Some(grounds);
    }

    /// What was ordered for a workload, and whether `enforce` was to wait for nothing.
    fn ordered(&self, workload: &Workload) -> (Mode, bool) {
        match self.grounds.as_ref().filter(|_| self.policy.as_captured) {
            Some(grounds) => (grounds.mode(workload), grounds.enforce_provisional),
            None => (self.policy.mode(workload), self.policy.enforce_provisional),
        }
    }

    fn wall_ns(&self, boot_ns: u64) -> i64 {
        self.realtime_offset_ns.saturating_add_unsigned(boot_ns)
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.now_boot_ns, wall_ns: self.wall_ns(self.now_boot_ns) }
    }

    /// Takes an event: what it says to the policy, and whom it would have met.
    pub fn observe(&mut self, event: &Event, judged: bool) {
        self.now_boot_ns = self.now_boot_ns.max(event.time_boot_ns);
        while self.to_come.front().is_some_and(|(time, _)| *time <= self.now_boot_ns) {
            let Some((_, grounds)) = self.to_come.pop_front() else { break };
            self.stand_on(grounds);
        }
        self.sweep();
        self.trees.observe(event);
        let key = (event.actor.tgid, event.actor.start_boot_ns);
        let subject = &event.actor.subject;
        match &event.origin {
            Origin::Fork(fork) if !fork.thread => {
                let child = (fork.child_tgid, fork.child_start_boot_ns);
                if self.parents.len() < PROCESSES_MAX {
                    self.parents.insert(child, key);
                }
                if self.cut.contains(&key) {
                    self.cut.insert(child);
                }
            }
            Origin::Exit(exit) if exit.process => {
                self.parents.remove(&key);
                self.namespaces.remove(&key);
            }
            Origin::Exec(exec) => {
                self.meet(event, &|live, _| match &live.entry.target {
                    Target::Program { cgroup_id, file, .. } => {
                        *cgroup_id == event.actor.cgroup_id && *file == exec.file
                    }
                    _ => false,
                });
                self.protected.use_file(exec.file, &subject.workload);
                if self.ran.len() < PAST_MAX {
                    self.ran.insert((subject.workload.clone(), exec.file));
                }
            }
            Origin::Flow(flow) if flow.has_peer() => {
                if self.namespaces.len() < PROCESSES_MAX {
                    self.namespaces.insert(key, u64::from(flow.netns));
                }
                // What stands is cut as well, once something is sent on it.
                let opens = matches!(flow.phase, FlowPhase::Start | FlowPhase::Failed);
                if opens && flow.direction == FlowDirection::Outbound || flow.packets_out > 0 {
                    let address = flow.peer.address;
                    self.meet(event, &|live, line| live.refuses(event, address, line));
                }
                self.protected.use_peer(&subject.workload, flow.peer.address);
                if !judged {
                    self.protected.learn_peer(&subject.workload, flow.peer.address);
                }
                if self.past.len() < PAST_MAX {
                    self.past.insert((Arc::clone(subject), flow.peer.address));
                }
            }
            _ => {}
        }
    }

    /// Counts an event as a hit of every live entry that it would have met.
    fn meet(&mut self, event: &Event, meets: &dyn Fn(&Live, &[ProcessKey]) -> bool) {
        if self.live.is_empty() {
            return;
        }
        let key = (event.actor.tgid, event.actor.start_boot_ns);
        let line = self.line(key);
        let wall_ns = self.wall_ns(event.time_boot_ns);
        let subject = &event.actor.subject;
        let benign = self.labels.map(|labels| {
            let around = self.trees.around(key);
            let covers = |l: &Label| l.covers(&self.host, subject, wall_ns, wall_ns + 1);
            !labels.iter().any(|label| label.means(&around) && covers(label))
        });
        let past = match &event.origin {
            Origin::Flow(flow) => self.past.contains(&(Arc::clone(subject), flow.peer.address)),
            Origin::Exec(exec) => self.ran.contains(&(subject.workload.clone(), exec.file)),
            _ => false,
        };
        let mut enforced = false;
        for live in &mut self.live {
            // One that is held stands later.
            if event.time_boot_ns < live.from_boot_ns || !meets(live, &line) {
                continue;
            }
            live.entry.hits += 1;
            enforced |= live.entry.mode == Mode::Enforce;
            let who = (subject.to_string(), event.actor.tgid);
            if live.cuts.len() >= CUTS_MAX && !live.cuts.contains_key(&who) {
                continue;
            }
            let cut = live.cuts.entry(who.clone()).or_insert_with(|| Cut {
                subject: who.0,
                tgid: who.1,
                hits: 0,
                first_ns: wall_ns,
                last_ns: wall_ns,
                benign_by_labels: benign.map(|_| 0),
                benign_by_past: past,
            });
            cut.hits += 1;
            cut.last_ns = wall_ns;
            if let (Some(count), Some(true)) = (&mut cut.benign_by_labels, benign) {
                *count += 1;
            }
        }
        if enforced {
            self.cut.insert(key);
        }
    }

    /// Extends entries that are being hit, and ends those that aren't any more.
    fn sweep(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let now = self.now();
        let mut at = 0;
        while at < self.live.len() {
            let live = &mut self.live[at];
            let hits = live.entry.hits;
            // As the daemon's sweep, which comes every second, would have met it.
            let due_ns = live.entry.expiry_boot_ns.min(now.boot_ns);
            match live.entry.due(due_ns, hits) {
                Due::Nothing => at += 1,
                Due::Extend => {
                    let wall_ns = now.wall_ns - (now.boot_ns - due_ns) as i64;
                    live.entry.extend(Now { boot_ns: due_ns, wall_ns });
                }
                Due::Release => {
                    let live = self.live.remove(at);
                    if live.entry.is_spent() {
                        self.spent.add(&live.entry);
                    }
                    self.release(live);
                }
            }
        }
    }

    fn release(&mut self, live: Live) {
        let end_ns = live.entry.expiry_boot_ns.min(self.now_boot_ns.max(live.from_boot_ns));
        let stood = &mut self.done[live.number];
        stood.to_ns = self.realtime_offset_ns.saturating_add_unsigned(end_ns);
        stood.seconds = end_ns.saturating_sub(live.from_boot_ns) as f64 / NS_PER_S as f64;
        stood.hits = live.entry.hits;
        stood.cuts = live.cuts.into_values().collect();
    }

    /// An epoch closed with these windows.
    pub fn closed(&mut self, windows: &[Window]) {
        self.epochs += 1;
        let Some(window) = windows.last() else { return };
        self.realtime_offset_ns = window.time.realtime_offset_ns;
        self.now_boot_ns = self.now_boot_ns.max(window.time.end_boot_ns);
        let workloads = windows.iter().map(|window| &window.subject.workload);
        let ordered = workloads.clone().filter(|name| self.policy.modes.contains_key(*name));
        self.met.extend(ordered.cloned());
        let wall_ns = self.wall_ns(self.now_boot_ns);
        self.coverage.watch(wall_ns, EPOCH_S, workloads, |_| false);
        self.sweep();
    }

    /// A finding: asks the policy about each process that there is evidence of, as the daemon does. It
    /// shows the first entry that came of it, or why there is none for the gravest.
    pub fn found(&mut self, finding: Finding, evidence: &[Evidence]) {
        if finding.activity == Activity::Close {
            return;
        }
        let known = self.findings.iter_mut().rev().find(|known| known.finding.uid == finding.uid);
        if let Some(known) = known {
            if finding.is_first_alert() {
                known.finding = finding.clone();
            }
            if evidence.is_empty() {
                return;
            }
        }
        let label = self.labels.and_then(|labels| {
            let around = self.trees.around_finding(&finding);
            let explains = labels.iter().find(|label| label.explains(&finding, &around));
            explains.map(|label| label.class.clone())
        });
        let process = finding.process.as_ref().map(|process| (process.pid, process.start_boot_ns));
        let gravest = evidence.first().map(|evidence| (evidence.tgid, evidence.start_boot_ns));
        let offender = gravest.or(process);
        let counterfactual = offender.is_some_and(|offender| self.cut.contains(&offender));
        let mut decided = Err("no evidence that a denial may rest on".to_owned());
        for (at, evidence) in evidence.iter().enumerate() {
            let offender = (evidence.tgid, evidence.start_boot_ns);
            let asked = self.decide(&finding, evidence, self.cut.contains(&offender));
            if at == 0 || (decided.is_err() && asked.is_ok()) {
                decided = asked;
            }
        }
        let (entry, reason) = match decided {
            Ok(number) => (Some(number), None),
            Err(reason) => (None, Some(reason)),
        };
        let known = self.findings.iter_mut().rev().find(|known| known.finding.uid == finding.uid);
        match known {
            Some(known) => {
                if known.entry.is_none() {
                    (known.entry, known.reason) = (entry, reason);
                }
            }
            None => {
                let hangs_on = self.missing.iter().copied().filter(|one| one.matters(&finding));
                let hangs_on = hangs_on.collect();
                let decided = Decided { finding, entry, reason, label, counterfactual, hangs_on };
                self.findings.push(decided);
            }
        }
    }

    fn decide(
        &mut self,
        finding: &Finding,
        evidence: &Evidence,
        counterfactual: bool,
    ) -> Result<usize, String> {
        let workload = &evidence.subject.workload;
        let now = self.now();
        let (mode, enforce_provisional) = self.ordered(workload);
        let offender = (evidence.tgid, evidence.start_boot_ns);
        self.protected.judge(self.namespaces.get(&offender).copied().into_iter().collect());
        let context = Context {
            mode,
            state: finding.state,
            covered: self.coverage.of(workload, now.wall_ns),
            enforce_provisional,
            protected: &self.protected,
            offenders: &self.offenders,
            file_exclusive: evidence
                .file
                .is_some_and(|file| self.protected.is_exclusive(file, workload)),
            // A capture doesn't tell where cgroups lie.
            deep: false,
            now_wall_ns: now.wall_ns,
        };
        let (target, rule, seconds, reason) = match policy::decide(evidence, &context) {
            Verdict::Deny { target, rule, seconds, reason } => (target, rule, seconds, reason),
            Verdict::Report { reason } => return Err(reason),
        };
        let wide = policy::widened(&target, evidence, &context);
        let mode = context.mode_now();
        let made = Made { finding, evidence, mode, rule, counterfactual };
        let number = self.install(target, seconds, reason.clone(), &made)?;
        self.offenders.add(evidence, mode, now.wall_ns);
        if let Some((target, why)) = wide {
            // What already covers it says nothing new.
            drop(self.install(target, seconds, format!("{why}; {reason}"), &made));
        }
        Ok(number)
    }

    fn install(
        &mut self,
        target: Target,
        seconds: u32,
        reason: String,
        made: &Made<'_>,
    ) -> Result<usize, String> {
        let subject = Arc::clone(&made.evidence.subject);
        let offender = (made.evidence.tgid, made.evidence.start_boot_ns);
        let request = Request {
            target: target.clone(),
            rule: made.rule,
            seconds,
            finding_uid: Some(made.finding.uid.clone()),
            subject: Some(Arc::clone(&subject)),
            process: Some(offender),
            mode: None,
            reason,
        };
        if self.spent.covers(&request) {
            return Err(Refusal::Spent.to_string());
        }
        let stops = |live: &&Live| {
            self.covers(live, &target)
                || live.entry.mode >= made.mode && self.is_within(live, &target, offender)
        };
        if let Some(live) = self.live.iter().find(stops) {
            return Err(format!("entry {} already stops it", live.number));
        }
        let mut now = self.now();
        let wide = !is_narrow(&target);
        self.admit(&made.evidence.subject.workload, &target, wide, now)?;
        if wide {
            now.boot_ns += HOLD_S * NS_PER_S;
            now.wall_ns += (HOLD_S * NS_PER_S) as i64;
        }
        let number = self.done.len();
        let uid = format!("{}-{number}", made.finding.uid);
        let mut entry = Entry::begun(number as u64, uid, request, (made.mode, made.mode), now);
        entry.enforced = level(&entry.target);
        self.done.push(Stood {
            host: self.host.clone(),
            finding_uid: made.finding.uid.clone(),
            name: entry.target.to_string(),
            target: entry.target.clone(),
            subject: subject.to_string(),
            rule: entry.rule,
            mode: entry.mode,
            level: entry.level(),
            reason: entry.reason.clone(),
            from_ns: now.wall_ns,
            to_ns: now.wall_ns,
            seconds: 0.0,
            hits: 0,
            wide,
            counterfactual: made.counterfactual,
            cuts: Vec::new(),
        });
        self.live.push(Live { entry, number, from_boot_ns: now.boot_ns, cuts: BTreeMap::new() });
        Ok(number)
    }

    /// The capture is over: what still stands is told up to here.
    pub fn end(&mut self, answer: &mut Backtest) {
        for live in std::mem::take(&mut self.live) {
            self.release(live);
        }
        answer.met.append(&mut self.met);
        let before = answer.entries.len();
        answer.entries.append(&mut self.done);
        for mut decided in std::mem::take(&mut self.findings) {
            decided.entry = decided.entry.map(|number| number + before);
            answer.findings.push(decided);
        }
        answer.days += (self.epochs * hedgerow_detect::EPOCH_SECONDS) as f64 / 86_400.0;
    }
}

/// What an entry is made of.
struct Made<'a> {
    finding: &'a Finding,
    evidence: &'a Evidence,
    mode: Mode,
    rule: Rule,
    counterfactual: bool,
}
