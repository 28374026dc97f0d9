//! From what was done to what is told: trees and windows against their floors.

use std::sync::Arc;

use hedgerow_event::{
    Activity, Class, Disposition, EpochClose, Evidence, Finding, Scale, Subject, Workload,
};
use hedgerow_features::Window;

use crate::{
    Engine, HOUR_NS, Outcome, WindowScore,
    detector::{Scored, measured},
    episodes::{Case, Episode},
    said::{
        finding::campaign_reason,
        questions::{Questions, deniable, window_of},
    },
    surprise::{campaign, notices::NotTold, tree::Tree},
    valid,
};

impl Engine {
    /// Judges the windows of a closed epoch, and what was done in it.
    pub(crate) fn judge_closed(
        &mut self,
        windows: &[Window],
        close: &EpochClose,
        outcomes: &mut Vec<Outcome>,
    ) {
        let mut relearned = Vec::new();
        self.trees.wake();
        for id in self.trees.grown() {
            self.judge_tree(id, windows, close.end_boot_ns, outcomes);
        }
        for scale in [Scale::Seconds5, Scale::Minute] {
            let mut part = valid(windows, scale);
            part.sort_by_key(|window| self.first_of(&window.subject));
            let mut scored = self.scored(scale, &part);
            // By what was held back before it: within an epoch no window decides over another.
            if let Some(learned) = self.learned.get(&scale) {
                for (window, scored) in part.iter().zip(&mut scored) {
                    scored.nats = learned.surprise(window, scored);
                }
            }
            for (window, scored) in part.iter().zip(&scored) {
                let found = self
                    .judge_window(window, scored, close.end_boot_ns, outcomes)
                    .or_else(|| self.episodes.case_of(&window.subject));
                let learns = self.learns_of(window);
                let clean = found.is_none() && learns && !self.episodes.involves(&window.subject);
                outcomes.push(Outcome::Scored(self.window_score(window, scored, found)));
                if !self.paused.concerns(&window.subject) {
                    self.hold_back_judged(window, scored);
                }
                if scale == Scale::Seconds5 && learns {
                    self.drift.add(&window.subject, scored.amounts);
                    self.daily.close(&window.subject, clean);
                }
                if clean {
                    self.keep_row(window, scored);
                }
                if scale == Scale::Seconds5 && self.relearns(&window.subject, clean) {
                    relearned.push(Arc::clone(&window.subject));
                }
            }
        }
        self.end_probation(relearned, outcomes);
        outcomes.extend(self.drift.close().into_iter().map(Outcome::Drifted));
        for episode in self.episodes.expire(close.end_boot_ns) {
            outcomes.extend(self.closing(episode, close.end_boot_ns));
        }
    }

    /// When a subject first did something in this epoch; later than all others where it did not.
    pub(crate) fn first_of(&self, subject: &Subject) -> u64 {
        self.first.get(subject).copied().unwrap_or(u64::MAX)
    }

    /// Every window goes on joining the hour's highest measure: the floor answers for what is told. Its
    /// program's tail is joined as far as no burst owns it.
    fn hold_back_judged(&mut self, window: &Window, scored: &Scored) {
        let Some(learned) = self.learned.get_mut(&window.time.scale) else { return };
        if let Some(nats) = scored.nats {
            self.floors.hold_back_measure(&window.subject.workload, nats);
        }
        if window.time.shed {
            return;
        }
        let floor = self.floors.floor_for(Class::Measure, &window.subject.workload);
        learned.hold_back(window, scored, scored.nats.is_some_and(|nats| nats >= floor));
    }

    /// Judges what the trees did whose last deeds were of the subject of an early row.
    pub(crate) fn judge_trees_of(
        &mut self,
        window: &Window,
        now_boot_ns: u64,
        outcomes: &mut Vec<Outcome>,
    ) {
        for id in self.trees.grown() {
            let of_it = self.trees.get(id).is_some_and(|tree| {
                tree.done.iter().any(|done| done.witness.subject == window.subject)
            });
            if of_it {
                let windows = std::slice::from_ref(window);
                self.judge_tree(id, windows, now_boot_ns, outcomes);
            } else if let Some(tree) = self.trees.get_mut(id) {
                tree.grown = true;
            }
        }
    }

    /// The gravest class in which a tree is above the floor, and its surprise.
    pub(crate) fn above(&self, tree: &Tree) -> Option<(Class, f64)> {
        let host = Workload::host();
        let workload = tree.workload().unwrap_or(&host);
        let above = |(class, nats): &(Class, f64)| *nats >= self.floors.floor_for(*class, workload);
        tree.nats().into_iter().rev().find(above)
    }

    /// Judges a tree that something was added to. `windows` are those that it may show.
    fn judge_tree(
        &mut self,
        id: u64,
        windows: &[Window],
        now_boot_ns: u64,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(tree) = self.trees.get(id) else { return };
        let above = self.above(tree);
        // A denial has a level of its own, that neither a floor nor a campaign moves: what reaches it is
        // listed.
        if let Some((class, nats)) = above.or_else(|| deniable(tree)) {
            let told = (class, nats, above.is_some());
            let more = tree.is_graver(nats, above.is_some());
            let questions = self.questions(tree, more, windows, now_boot_ns);
            let tells = more || tree.has_more_offenders() || questions.news;
            let Questions { evidence, waits, .. } = questions;
            if tells {
                self.tell_tree(id, told, evidence, windows, now_boot_ns, outcomes);
            } else if !evidence.is_empty() {
                self.ask_again(id, told, evidence, windows, now_boot_ns, outcomes);
            }
            if let Some(tree) = self.trees.get_mut(id) {
                tree.waits = waits;
            }
        }
        match above {
            Some(_) => self.campaign.remove(id),
            None => self.judge_campaign(id, now_boot_ns, outcomes),
        }
    }

    /// Tells a tree, and has the responder asked about whoever it could deny for it.
    fn tell_tree(
        &mut self,
        id: u64,
        (class, nats, above): (Class, f64, bool),
        evidence: Vec<Evidence>,
        windows: &[Window],
        now_boot_ns: u64,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(tree) = self.trees.get(id).cloned() else { return };
        let window = window_of(&tree, windows);
        let finding = self.tree_finding(&tree, class, nats, window, now_boot_ns);
        if let Some(tree) = self.trees.get_mut(id) {
            tree.tell(nats, above);
            tree.ask(&evidence, now_boot_ns);
        }
        let subjects = tree.done.iter().map(|done| Arc::clone(&done.witness.subject));
        let case = Case::Tree(id);
        let is_fresh = self.episodes.get(&case).is_none();
        let uid = self.name_case(&case, &finding, now_boot_ns);
        let episode =
            self.episodes.of(case.clone(), class, now_boot_ns, (&finding.subject.workload, uid));
        episode.subjects.extend(subjects);
        self.report(&case, above.then_some(nats), finding, evidence, outcomes);
        let reported = self.episodes.get(&case).and_then(|episode| episode.reported.clone());
        if let (Some(tree), Some(reported)) = (self.trees.get_mut(id), reported) {
            tree.report(reported, is_fresh, now_boot_ns);
        }
    }

    /// Has the responder asked once more, for what was last told of the tree: that prolongs no case. Once an
    /// hour it is a case of its own, or who goes on longer than tries can keep an entry would be free.
    fn ask_again(
        &mut self,
        id: u64,
        told: (Class, f64, bool),
        evidence: Vec<Evidence>,
        windows: &[Window],
        now_boot_ns: u64,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(tree) = self.trees.get_mut(id) else { return };
        let Some(mut finding) = tree.told_since(now_boot_ns.saturating_sub(HOUR_NS)) else {
            self.episodes.end(&Case::Tree(id));
            return self.tell_tree(id, told, evidence, windows, now_boot_ns, outcomes);
        };
        tree.ask(&evidence, now_boot_ns);
        finding.state = self.state_of(&finding.subject);
        outcomes.push(Outcome::Again(finding, evidence));
    }

    /// Judges what several trees did within two hours, one of which did more, and none of which is
    /// told by itself. No denial rests on it: who did which deed is no single tree.
    fn judge_campaign(&mut self, id: u64, now_boot_ns: u64, outcomes: &mut Vec<Outcome>) {
        let Some(tree) = self.trees.get(id).filter(|tree| !tree.is_suspected()) else { return };
        self.campaign.add(id, tree, now_boot_ns / HOUR_NS);
        let whole = self.campaign.whole();
        let tops = whole.done.iter().map(|done| (done.deed().aspect(), done.nats));
        let (nats, floor) = (campaign::nats(tops), self.floors.campaign_floor());
        if nats < floor {
            return;
        }
        let class = whole.class();
        let mut finding = self.tree_finding(&whole, class, nats, None, now_boot_ns);
        finding.floor = floor;
        finding.reason = campaign_reason(&whole, nats, floor);
        // Their last tree, which makes no other: who did more just now may not be among them.
        let trees = self.campaign.take();
        let case = Case::Campaign(trees.last().copied().unwrap_or(id));
        let uid = self.name_case(&case, &finding, now_boot_ns);
        let episode =
            self.episodes.of(case.clone(), class, now_boot_ns, (&finding.subject.workload, uid));
        episode.subjects.extend(whole.done.iter().map(|done| Arc::clone(&done.witness.subject)));
        let uid = episode.uid.clone();
        self.report(&case, Some(nats), finding, Vec::new(), outcomes);
        // What was part of it is not learned, as far as it wasn't yet.
        for id in trees {
            if let Some(tree) = self.trees.get_mut(id) {
                tree.tell(tree.nats().into_values().fold(0.0, f64::max), true);
                tree.report_as(&uid);
            }
        }
        for done in &whole.done {
            self.unsuspected.remove(&done.witness.object);
        }
    }

    /// Judges one scored window by its measure; gives the case that it is part of. A program that a
    /// tree's case is about does more, or other work, because of that, unless it is graver than what was told.
    pub(crate) fn judge_window(
        &mut self,
        window: &Window,
        scored: &Scored,
        now_boot_ns: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Option<Case> {
        let nats = scored.nats?;
        if nats < self.floors.floor_for(Class::Measure, &window.subject.workload) {
            return None;
        }
        if let Some(case) = self.episodes.tree_of(&window.subject, nats) {
            return Some(case);
        }
        let finding = self.window_finding(window, scored, nats, now_boot_ns);
        let case = Case::Amounts(window.subject.workload.clone(), window.subject.is_host());
        self.episodes.end_old(&case, now_boot_ns);
        // What is far graver than all that a person was told of is told as a case of its own.
        if self.episodes.get(&case).is_some_and(|case| case.notified && case.is_graver(nats)) {
            self.episodes.end(&case);
        }
        let uid = self.name_case(&case, &finding, now_boot_ns);
        let columns: Vec<_> = finding
            .attribution
            .first()
            .map(|share| Arc::clone(&share.feature))
            .into_iter()
            .collect();
        let episode = self.episodes.of(
            case.clone(),
            Class::Measure,
            now_boot_ns,
            (&finding.subject.workload, uid),
        );
        let before = (episode.subjects.len(), episode.columns.len());
        episode.subjects.insert(Arc::clone(&window.subject));
        episode.columns.extend(columns);
        let grown = before != (episode.subjects.len(), episode.columns.len());
        if grown || !episode.notified {
            self.report(&case, Some(nats), finding, Vec::new(), outcomes);
        }
        Some(case)
    }

    /// Reports a case: a notification where its class has room for one in this hour or it was told
    /// of before, else listed. `nats` is its surprise where it is above its floor.
    fn report(
        &mut self,
        case: &Case,
        nats: Option<f64>,
        mut finding: Finding,
        evidence: Vec<Evidence>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(episode) = self.episodes.get(case) else { return };
        let (told, listed) = (episode.notified, episode.reported.is_some());
        let (class, now) = (episode.class, episode.last_boot_ns);
        let not_told = match told {
            true => None,
            false => self.not_told((class, nats), &finding.subject, now),
        };
        if not_told.is_some() && listed && evidence.is_empty() {
            return;
        }
        finding.activity = if told || listed { Activity::Update } else { Activity::Create };
        if let Some(why) = not_told {
            if !listed {
                self.notices.list(why);
            }
            finding.disposition = Disposition::Suppressed;
            finding.reason += &format!("; listed, not told: {}", why.words());
        }
        let notified = finding.disposition.is_alert();
        finding.first_alert = Some(notified && !told);
        let Some(episode) = self.episodes.get_mut(case) else { return };
        episode.notified |= notified;
        finding.uid.clone_from(&episode.uid);
        finding.sequence = episode.sequence;
        episode.sequence += 1;
        episode.reported = Some(Box::new(finding.clone()));
        outcomes.push(Outcome::Finding(Box::new(finding), evidence));
    }

    /// Why a case of a subject would not be told; where it is, its place is taken.
    fn not_told(
        &mut self,
        (class, nats): (Class, Option<f64>),
        subject: &Subject,
        now_boot_ns: u64,
    ) -> Option<NotTold> {
        let Some(nats) = nats else { return Some(NotTold::BelowFloor) };
        let hours = if class == Class::Measure { self.hours_of(subject) } else { 0.0 };
        if !self.floors.tells(class, hours) {
            return Some(NotTold::LittleKnown(self.floors.hours_missing(hours)));
        }
        let per_hour = self.floors.per_hour(class);
        let case = (class, &subject.workload);
        (!self.notices.admit(case, per_hour, now_boot_ns, nats)).then_some(NotTold::Room)
    }

    /// How a window was judged, with the episode that it is part of.
    pub(crate) fn window_score(
        &self,
        window: &Window,
        scored: &Scored,
        case: Option<Case>,
    ) -> WindowScore {
        WindowScore {
            subject: Arc::clone(&window.subject),
            scale: window.time.scale,
            epoch: window.time.epoch.0,
            early: window.early,
            window_start_ns: self.unix_ns(window.time.start_boot_ns),
            window_end_ns: self.unix_ns(window.time.end_boot_ns),
            score: scored.forest,
            row: measured(&scored.deviation),
            surprise: scored.nats,
            floor: self.floors.floor_for(Class::Measure, &window.subject.workload),
            finding_uid: case
                .and_then(|case| self.episodes.get(&case).map(|episode| episode.uid.clone())),
        }
    }

    /// The last report of an episode that is over; none where it was never reported.
    pub(crate) fn closing(&self, episode: Episode, now_boot_ns: u64) -> Option<Outcome> {
        let mut finding = episode.reported?;
        finding.activity = Activity::Close;
        finding.first_alert = Some(false);
        finding.sequence = episode.sequence;
        finding.time_ns = self.unix_ns(now_boot_ns);
        Some(Outcome::Finding(finding, Vec::new()))
    }
}
