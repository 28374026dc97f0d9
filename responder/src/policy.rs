//! Whether a finding leads to a denial, and of what. Pure: no IO, no clock.
//!
//! Level and rule are fixed; neither the alert budget nor feedback moves them. A denial needs a
//! process tree that is surprising by [`DENIAL_NATS`], two aspects of what it did, complete evidence
//! from kernel-owned copies, and a strong object: something grave by itself, or a new peer of a new
//! program. A never-seen program alone is reported, no more: `pg_dump` is one.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
};

use hedgerow_event::{
    DENIAL_NATS, Evidence, FileKey, Maturity, Mode, Object, Peer, Rule, Target, Verdict,
};

use crate::{
    coverage::{Covered, DAYS_MIN, HOURS},
    entry::{PERIOD_FIRST_S, Process},
    protected::ProtectedSet,
    target::{ROOT_CGROUP, plain},
};

/// Aspects of what a tree did that must agree.
const ASPECTS_MIN: usize = 2;
/// Distinct offenders before a target is widened.
const OFFENDERS_MIN: usize = 3;
/// Offences that are remembered; the oldest go first.
const OFFENCES_MAX: usize = 1024;
/// Who was refused one peer within that time, and uses another, loses his network.
const MOVES_ON_NS: u64 = 3600 * 1_000_000_000;

/// What the decision depends on beside the evidence.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The workload's mode, as ordered.
    pub mode: Mode,
    pub state: Maturity,
    /// How much of a week the workload was watched for.
    pub covered: Covered,
    /// Enforce before that: for demonstrations.
    pub enforce_provisional: bool,
    pub protected: &'a ProtectedSet,
    pub offenders: &'a Offenders,
    /// No other workload has run the offender's file, and its key stands for one program only;
    /// `false` where it isn't known.
    pub file_exclusive: bool,
    /// The offender's cgroup lies so deep that an entry for it can be left; `false` where it isn't known.
    pub deep: bool,
    /// Wall time, Unix nanoseconds.
    pub now_wall_ns: i64,
}

impl Context<'_> {
    /// The mode that an entry may act in now: `enforce` is held at `monitor` while anything is
    /// [`missing`].
    pub fn mode_now(&self) -> Mode {
        let held = !self.enforce_provisional && !missing(self.state, self.covered).is_empty();
        if held { self.mode.min(Mode::Monitor) } else { self.mode }
    }
}

/// One thing that a workload lacks before `enforce` takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Maturity(Maturity),
    /// So many days were watched.
    Days(u32),
    /// So many hours of the week were seen.
    Hours(u32),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maturity(state) => write!(f, "its profile is {state}, not mature"),
            Self::Days(days) => write!(f, "{days} of {DAYS_MIN} days watched"),
            Self::Hours(hours) => write!(f, "{hours} of the week's {HOURS} hours seen"),
        }
    }
}

/// What a workload lacks before `enforce` takes effect; nothing where it may.
pub fn missing(state: Maturity, covered: Covered) -> Vec<Missing> {
    let lacks = [
        (state != Maturity::Mature).then_some(Missing::Maturity(state)),
        (covered.days < DAYS_MIN).then_some(Missing::Days(covered.days)),
        (covered.hours < HOURS).then_some(Missing::Hours(covered.hours)),
    ];
    lacks.into_iter().flatten().collect()
}

/// One denied offender, as it counts for widening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offence {
    cgroup_id: u64,
    program_id: u64,
    tgid: u32,
    start_boot_ns: u64,
    file: Option<FileKey>,
    peer: Option<Peer>,
}

/// Offenders of the recent past, by which a target is widened.
#[derive(Debug, Clone, Default)]
pub struct Offenders {
    /// In which mode each was denied, and when last, wall time.
    recent: VecDeque<(Offence, Mode, i64)>,
}

impl Offenders {
    /// Remembers an offender that was denied, or is counted only.
    pub fn add(&mut self, evidence: &Evidence, mode: Mode, now_wall_ns: i64) {
        let offence = offence(evidence);
        self.recent.retain(|(other, ..)| *other != offence);
        if self.recent.len() >= OFFENCES_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((offence, mode, now_wall_ns));
    }

    /// An operator took back what a process was denied.
    pub fn forget(&mut self, (tgid, start_boot_ns): Process) {
        self.recent
            .retain(|(other, ..)| (other.tgid, other.start_boot_ns) != (tgid, start_boot_ns));
    }

    /// The process was refused something else lately, another peer or this one from another cgroup: one
    /// entry for a peer after the other would never hold it.
    fn moves_on(&self, now: Offence, peer: Peer, now_wall_ns: i64) -> bool {
        let named =
            |of: Offence, peer: Option<Peer>| (of.cgroup_id, peer.map(|peer| plain(peer.address)));
        self.recent.iter().any(|(other, mode, wall_ns)| {
            *mode == Mode::Enforce
                && now_wall_ns.abs_diff(*wall_ns) < MOVES_ON_NS
                && (other.tgid, other.start_boot_ns) == (now.tgid, now.start_boot_ns)
                && named(*other, other.peer) != named(now, Some(peer))
        })
    }

    fn offences(&self) -> impl Iterator<Item = &Offence> {
        self.recent.iter().map(|(offence, ..)| offence)
    }

    /// Distinct programs of the cgroup, this one included, that used the peer's address.
    fn programs_at(&self, now: Offence, peer: Peer) -> usize {
        let at_peer = |other: &&Offence| {
            other.cgroup_id == now.cgroup_id
                && other.peer.is_some_and(|other| other.address == peer.address)
        };
        let programs = self.offences().filter(at_peer).map(|other| other.program_id);
        programs.chain([now.program_id]).collect::<HashSet<_>>().len()
    }

    /// Distinct processes of the cgroup, this one included, that ran the file.
    fn processes_of(&self, now: Offence, file: FileKey) -> usize {
        let same = |other: &&Offence| other.cgroup_id == now.cgroup_id && other.file == Some(file);
        let processes = self.offences().filter(same).map(|other| (other.tgid, other.start_boot_ns));
        processes.chain([(now.tgid, now.start_boot_ns)]).collect::<HashSet<_>>().len()
    }
}

fn offence(evidence: &Evidence) -> Offence {
    Offence {
        cgroup_id: evidence.cgroup_id,
        program_id: evidence.program_id,
        tgid: evidence.tgid,
        start_boot_ns: evidence.start_boot_ns,
        file: evidence.file,
        peer: evidence.peer,
    }
}

/// Decides. The same evidence and context always give the same verdict.
pub fn decide(evidence: &Evidence, context: &Context<'_>) -> Verdict {
    match refusal(evidence, context) {
        Some(reason) => Verdict::Report { reason },
        None => match strong_object(evidence) {
            Some((rule, object)) => deny(evidence, context, rule, object),
            None => Verdict::Report { reason: weak_object(evidence).to_owned() },
        },
    }
}

/// Why there can be no denial whatever the object is.
fn refusal(evidence: &Evidence, context: &Context<'_>) -> Option<String> {
    let aspects: HashSet<_> = evidence.deeds.iter().map(|deed| deed.aspect()).collect();
    let reason = if context.mode == Mode::Observe {
        "the workload's mode is observe".to_owned()
    } else if context.state == Maturity::Learning {
        "the profile is being learned".to_owned()
    } else if evidence.surprise < DENIAL_NATS {
        format!("it is not surprising enough: {:.1} nats of {DENIAL_NATS:.0}", evidence.surprise)
    } else if !evidence.complete {
        "the evidence has holes: records of it were lost or late".to_owned()
    } else if !evidence.kernel_owned {
        "a fact was read from user memory, which the process could rewrite".to_owned()
    } else if aspects.len() < ASPECTS_MIN {
        "no second deed of another kind agrees".to_owned()
    } else {
        return context.protected.subject(evidence).map(|what| format!("{what} is protected"));
    };
    Some(reason)
}

/// The strong object that the denial rests on, by the narrowest target that it leads to.
fn strong_object(evidence: &Evidence) -> Option<(Rule, &Object)> {
    let objects = || evidence.objects.iter();
    let new_program = |subject| {
        objects()
            .any(|object| matches!(object, Object::NewProgram { subject: new } if new == subject))
    };
    // The narrowest target first: a peer stops less than a task tree.
    objects()
        .find(|object| match object {
            Object::NewPeer { subject, peer, .. } => {
                subject == &evidence.subject && new_program(subject) && evidence.peer == Some(*peer)
            }
            _ => false,
        })
        .map(|object| (Rule::NewProgramNewPeer, object))
        .or_else(|| {
            objects()
                .find(|o| matches!(o, Object::ExecMemory { .. } | Object::ExecWritable { .. }))
                .map(|object| (Rule::ExecUntrusted, object))
        })
        .or_else(|| {
            objects()
                .find(|object| matches!(object, Object::Privilege { .. }))
                .map(|object| (Rule::PrivilegeChange, object))
        })
        .or_else(|| {
            objects()
                .find(|object| object.deed().may_deny())
                .map(|object| (Rule::GraveDeed, object))
        })
}

fn weak_object(evidence: &Evidence) -> &'static str {
    let has = |kind: fn(&Object) -> bool| evidence.objects.iter().any(kind);
    if has(|object| matches!(object, Object::NewPeer { .. })) {
        "a known program with a new peer is reported, no more"
    } else if has(|object| matches!(object, Object::NewProgram { .. })) {
        "a never-seen program alone is reported, no more"
    } else {
        "there is no object to deny"
    }
}

fn deny(evidence: &Evidence, context: &Context<'_>, rule: Rule, object: &Object) -> Verdict {
    let mut reason = format!("{object}, {:.1} nats", evidence.surprise);
    let target = match (rule, evidence.peer) {
        (Rule::NewProgramNewPeer, Some(peer)) => {
            let workload = &evidence.subject.workload;
            match context.protected.peer(workload, peer.address, context.now_wall_ns) {
                None if evidence.program_id != 0 && has_cgroup(evidence, context) => {
                    Ok(peer_target(evidence, peer))
                }
                None => tree_target(evidence, context),
                Some(what) => {
                    reason += &format!("; {peer} is {what}, so the process is denied instead");
                    tree_target(evidence, context)
                }
            }
        }
        _ => tree_target(evidence, context),
    };
    if context.mode_now() < context.mode {
        let missing: Vec<String> =
            missing(context.state, context.covered).iter().map(ToString::to_string).collect();
        let missing = missing.join(", ");
        reason += &format!("; enforce is held at monitor: {missing}");
    }
    match target {
        Ok(target) => Verdict::Deny { target, rule, seconds: PERIOD_FIRST_S, reason },
        Err(why) => Verdict::Report { reason: format!("{reason}; {why}") },
    }
}

/// Whether the process is in a cgroup that an entry can be confined to.
fn has_cgroup(evidence: &Evidence, context: &Context<'_>) -> bool {
    evidence.cgroup_id > ROOT_CGROUP && !context.deep
}

/// The address for this program in this workload.
fn peer_target(evidence: &Evidence, peer: Peer) -> Target {
    let address = plain(peer.address);
    Target::Peer {
        address,
        prefix_length: if address.is_ipv4() { 32 } else { 128 },
        cgroup_id: evidence.cgroup_id,
        program_id: evidence.program_id,
    }
}

/// The process with what it forks.
fn tree_target(evidence: &Evidence, context: &Context<'_>) -> Result<Target, &'static str> {
    if let Some(what) = context.protected.task(evidence.tgid) {
        return Err(what);
    }
    if evidence.start_boot_ns == 0 {
        return Err("its process is not known for certain");
    }
    Ok(Target::TaskTree { tgid: evidence.tgid, start_boot_ns: evidence.start_boot_ns })
}

/// The wider target that stops what comes next, too: the process, once it was refused another peer and its tree
/// did something grave; and the next offender, once several distinct ones needed the same narrow one: the
/// address for all programs of the workload, or the program in the workload. It is asked for beside the
/// narrow one, which stands at once where this one is held.
pub fn widened(
    narrow: &Target,
    evidence: &Evidence,
    context: &Context<'_>,
) -> Option<(Target, String)> {
    let now = offence(evidence);
    match (narrow, evidence.peer, evidence.file) {
        (Target::Peer { .. }, Some(peer), _) if loses_all(evidence, peer, context) => {
            let whole = tree_target(evidence, context).ok()?;
            Some((whole, "it was refused something else before, so the process is denied".into()))
        }
        (Target::Peer { address, prefix_length, cgroup_id, .. }, Some(peer), _) => {
            let offenders = context.offenders.programs_at(now, peer);
            let wide = Target::Peer {
                address: *address,
                prefix_length: *prefix_length,
                cgroup_id: *cgroup_id,
                program_id: 0,
            };
            (offenders >= OFFENDERS_MIN)
                .then(|| (wide, format!("{offenders} programs of the workload used {address}")))
        }
        (Target::TaskTree { .. }, _, Some(file)) => {
            let offenders = context.offenders.processes_of(now, file);
            let own_cgroup = has_cgroup(evidence, context);
            let may = offenders >= OFFENDERS_MIN && own_cgroup && context.file_exclusive;
            let path = evidence.subject.program.path.clone();
            may.then(|| {
                let why = format!("{offenders} processes of the workload ran {path}");
                let cgroup_id = evidence.cgroup_id;
                (Target::Program { cgroup_id, file, path, network: false }, why)
            })
        }
        _ => None,
    }
}

/// Whether a process that uses a peer is to lose its network: novelty alone never costs that.
fn loses_all(evidence: &Evidence, peer: Peer, context: &Context<'_>) -> bool {
    context.offenders.moves_on(offence(evidence), peer, context.now_wall_ns)
        && evidence.objects.iter().any(|object| object.deed().may_deny())
}

#[cfg(test)]
mod tests;
