//! Lives of a recording: learned states, and what each of them finds of every act and of plain life.

use std::{collections::VecDeque, ops::Range};

use hedgerow_detect::surprise::floors::share;
use hedgerow_event::{Class as Deeds, Finding, Object, Subject};
use serde::{Deserialize, Serialize};

use super::{
    isolate::{Copy, work_alone},
    life::{Life, Placed},
    lineage::Tree,
    marks::{Class, Mark, Span},
    tape::{Naming, Tape},
};

/// Benign epochs before what is spliced in: this many and up to twice as many.
const LEAD: usize = 6;
/// Epochs after it: the limit of 75 s.
const TAIL: usize = 16;
/// Longer learning than the recording holds is drawn in blocks of ten minutes.
const BLOCK: usize = 120;
/// After the act's end the recording goes on for so long before the splice ends.
const SLACK_NS: u64 = 1_000_000_000;
/// Lives at a time; the machine has two cores.
const TOGETHER: usize = 2;

/// What of the rule judges: the whole of it, or a part, to see what each brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    Whole,
    /// The measure class with all of the budget.
    ForestAlone,
    /// The other classes with all of the budget.
    DeedsAlone,
    /// Deeds without a budget: each object that was never seen alerts.
    EveryNewObject,
}

impl Rule {
    pub const PARTS: [Self; 3] = [Self::ForestAlone, Self::DeedsAlone, Self::EveryNewObject];

    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "the whole rule",
            Self::ForestAlone => "forest alone",
            Self::DeedsAlone => "deeds alone",
            Self::EveryNewObject => "every new object alerts",
        }
    }

    /// Whether a finding of the class counts.
    pub fn tells(self, class: Deeds) -> bool {
        match self {
            Self::Whole => true,
            Self::ForestAlone => class == Deeds::Measure,
            Self::DeedsAlone | Self::EveryNewObject => class != Deeds::Measure,
        }
    }

    /// The budget that gives the classes that count all that is asked.
    fn budget(self, per_day: f64) -> f64 {
        /// So many a day that every floor lies at nothing.
        const NO_BUDGET: f64 = 1e9;
        let part =
            Deeds::ALL.into_iter().filter(|class| self.tells(*class)).map(share).sum::<f64>();
        if self == Self::EveryNewObject { NO_BUDGET } else { per_day / part }
    }
}

/// What is tried.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rule: Rule,
    pub acts: Acts,
    /// Learning times in seconds.
    pub learn_s: Vec<u64>,
    pub namings: Vec<Naming>,
    /// Learned states of each naming and time; each act meets one of them. After a day of learning
    /// there is one: it was drawn from so many blocks that others would be no different.
    pub states: usize,
    /// Plain life judged of each state: all that was recorded of it once, and blocks of it drawn
    /// again until there is as much.
    pub plain_hours: f64,
    pub budget_per_day: f64,
}

/// Which acts are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acts {
    All,
    /// Every other one, from the first (0) or the second (1) on.
    Half(usize),
    /// None: only plain life.
    None,
}

impl Acts {
    fn has(self, act: usize) -> bool {
        match self {
            Self::All => true,
            Self::Half(half) => act % 2 == half,
            Self::None => false,
        }
    }
}

/// One act spliced into one life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub mark: usize,
    pub kind: String,
    pub class: Class,
    pub load: String,
    /// Of its tree.
    pub processes: usize,
    /// Seconds from its begin to the alert that names its processes.
    pub found_s: Option<f64>,
    /// Any alert from its begin to the limit.
    pub alerted: bool,
    /// What the deciding alert said, else the first report that was no alert.
    pub said: Option<String>,
}

/// One learned state, and what it made of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub naming: Naming,
    pub learn_s: u64,
    /// Epochs of a learning block: all of them where the recording had room.
    pub block_epochs: usize,
    /// Epochs learned from, where a quiet load needed more than its share.
    pub learned_epochs: usize,
    pub tried: Vec<Tried>,
    /// Hours of plain life judged, and its alerts.
    pub plain_hours: f64,
    pub plain_alerts: Vec<String>,
}

/// Numbers to draw blocks by: splitmix64.
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (end.max(1) as u64)).unwrap_or(0)
    }

    /// `length` epochs that follow each other, or all there are.
    fn piece(&mut self, pool: &Range<usize>, length: usize) -> Range<usize> {
        let length = length.min(pool.len());
        let begin = pool.start + self.below(pool.len() - length + 1);
        begin..begin + length
    }
}

impl Plan {
    fn states_of(&self, learn_s: u64) -> usize {
        if learn_s >= 86_400 { 1 } else { self.states }
    }
}

/// Lives of one recording; told of each state as it is done.
pub fn judge(tape: &Tape, plan: &Plan, tell: &mut dyn FnMut(&State)) -> anyhow::Result<Vec<State>> {
    let mut jobs = VecDeque::new();
    for &learn_s in &plan.learn_s {
        for &naming in &plan.namings {
            jobs.extend((0..plan.states_of(learn_s)).map(|state| (naming, learn_s, state)));
        }
    }
    let mut running = VecDeque::new();
    let mut states = Vec::new();
    while !jobs.is_empty() || !running.is_empty() {
        while running.len() < TOGETHER
            && let Some((naming, learn_s, number)) = jobs.pop_front()
        {
            let work = || state(tape, plan, naming, learn_s, number);
            running.push_back(Copy::start(work)?);
        }
        if let Some(copy) = running.pop_front() {
            let done: State = copy.finish()?;
            tell(&done);
            states.push(done);
        }
    }
    Ok(states)
}

fn state(
    tape: &Tape,
    plan: &Plan,
    naming: Naming,
    learn_s: u64,
    number: usize,
) -> anyhow::Result<State> {
    work_alone()?;
    let learn = tape.inside(tape.session.learn);
    let judge = tape.inside(tape.session.judge);
    anyhow::ensure!(learn.len() >= 6 && judge.len() >= 3, "the recording is too short");
    let mut draw = Draw(learn_s << 8 | number as u64);
    let mut life =
        Life::new(tape, naming, learn_s, plan.rule, plan.rule.budget(plan.budget_per_day))?;
    let wanted = usize::try_from(learn_s / 5)?;
    let block = if wanted <= learn.len() { wanted } else { BLOCK.min(learn.len()) };
    let mut learned_epochs = 0;
    while !life.is_scoring() {
        anyhow::ensure!(learned_epochs <= 3 * wanted + BLOCK, "learning doesn't end");
        let piece = draw.piece(&learn, block.min(wanted.saturating_sub(learned_epochs).max(1)));
        learned_epochs += piece.len();
        life.play(piece)?;
    }
    let mut state = State {
        naming,
        learn_s,
        block_epochs: block,
        learned_epochs,
        tried: Vec::new(),
        plain_hours: 0.0,
        plain_alerts: Vec::new(),
    };
    let acts = (0..tape.marks.len()).filter(|act| plan.acts.has(*act));
    for index in acts.skip(number).step_by(plan.states_of(learn_s)) {
        let tried = Copy::start(|| splice(&mut life, tape, index, &judge, &mut draw))?;
        state.tried.push(tried.finish()?);
        // The copy drew for itself.
        draw.below(1);
    }
    let wanted = (plan.plain_hours * 720.0).ceil() as usize;
    let mut judged = judge.len();
    life.play(judge.clone())?;
    while judged < wanted {
        let piece = draw.piece(&judge, BLOCK.min(wanted - judged));
        judged += piece.len();
        life.play(piece)?;
    }
    state.plain_hours = judged as f64 * 5.0 / 3600.0;
    state.plain_alerts =
        life.findings.iter().filter(|finding| finding.is_first_alert()).map(told).collect();
    Ok(state)
}

/// An act in its place: plain life, the epochs that hold it, plain life.
fn splice(
    life: &mut Life<'_>,
    tape: &Tape,
    index: usize,
    judge: &Range<usize>,
    draw: &mut Draw,
) -> anyhow::Result<Tried> {
    let (mark, tree) = (&tape.marks[index], &tape.trees[index]);
    let lead = LEAD + draw.below(LEAD);
    life.play(draw.piece(judge, lead))?;
    life.findings.clear();
    let span = Span {
        begin_boot_ns: mark.begun_boot_ns,
        end_boot_ns: mark.ended_boot_ns.saturating_add(SLACK_NS),
    };
    let epochs = tape.around(span);
    let mut act = Act { mark, tree, placed: vec![life.play(epochs.clone())?] };
    if mark.class == Class::Slow {
        // It goes on as it was in its middle, until it is found or the limit is reached.
        let middle = epochs.start + 1..epochs.end.saturating_sub(1);
        let limit = usize::try_from(mark.class.limit().as_secs() / 5)?;
        for _ in 0..limit / middle.len().max(1) {
            if middle.is_empty() || act.found(life).is_some() {
                break;
            }
            act.placed.push(life.play(middle.clone())?);
        }
    }
    let mut left = TAIL;
    while left > 0 {
        let piece = draw.piece(judge, left);
        left -= piece.len();
        life.play(piece)?;
    }
    Ok(act.verdict(life, index))
}

/// An act in a life.
struct Act<'a> {
    mark: &'a Mark,
    tree: &'a Tree,
    /// Where it, or a part of it, was played.
    placed: Vec<Placed>,
}

impl Act<'_> {
    fn begun(&self) -> u64 {
        self.placed.first().map_or(0, |placed| placed.time(self.mark.begun_boot_ns))
    }

    /// What was reported of anything from its begin to the limit.
    fn reports<'l>(&self, life: &'l Life<'_>) -> impl Iterator<Item = &'l Finding> + use<'l> {
        let begun = self.begun();
        let limit = u64::try_from(self.mark.class.limit().as_nanos()).unwrap_or(u64::MAX);
        let times = begun..=begun.saturating_add(limit);
        life.findings.iter().filter(move |finding| times.contains(&life.boot_ns_of(finding)))
    }

    fn found<'l>(&self, life: &'l Life<'_>) -> Option<&'l Finding> {
        self.reports(life).find(|finding| finding.is_first_alert() && self.is_named_by(finding))
    }

    fn verdict(&self, life: &Life<'_>, index: usize) -> Tried {
        let Mark { kind, class, load, .. } = self.mark.clone();
        let found = self.found(life);
        let alert = self.reports(life).find(|finding| finding.is_first_alert());
        let said = found.or(alert).or_else(|| self.reports(life).next());
        Tried {
            mark: index,
            kind,
            class,
            load,
            processes: self.tree.processes.len(),
            found_s: found.map(|found| (life.boot_ns_of(found) - self.begun()) as f64 / 1e9),
            alerted: alert.is_some(),
            said: said.map(told),
        }
    }

    /// The finding's process is one of the tree's; or it says of a program that the tree ran what was
    /// new; or, where it has no process at all, its subject is the tree's.
    fn is_named_by(&self, finding: &Finding) -> bool {
        let ours = |subject: &Subject| self.tree.subjects.iter().any(|one| **one == *subject);
        let process = finding.process.as_ref().is_some_and(|process| {
            let started = |start: u64| {
                self.placed.iter().any(|placed| placed.start(start) == process.start_boot_ns)
            };
            self.tree.processes.iter().any(|(pid, start)| *pid == process.pid && started(*start))
        });
        let object = finding.objects.iter().any(|object| match object {
            Object::NewProgram { subject }
            | Object::NewPeer { subject, .. }
            | Object::Privilege { subject, .. }
            | Object::ExecMemory { subject }
            | Object::ExecWritable { subject }
            | Object::Replaced { subject }
            | Object::Did { subject, .. } => ours(subject),
            Object::NewChild { child, .. } => ours(child),
            _ => false,
        });
        process || object || (finding.process.is_none() && ours(&finding.subject))
    }
}

fn told(finding: &Finding) -> String {
    let what = if finding.is_first_alert() { "" } else { "no alert: " };
    format!("{what}{}: {}", finding.subject, finding.reason)
}
