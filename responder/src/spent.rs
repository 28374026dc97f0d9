//! Entries that nothing but a fresh finding opens again: those that were tried for as long as tries alone can keep
//! one, and those that an operator took back. Pure.

use std::collections::VecDeque;

use hedgerow_event::Target;

use crate::{
    entry::{Entry, Process, Request},
    target::same,
};

/// Ended entries that are remembered, of each kind; the oldest go first, and could be opened once more.
const SPENT_MAX: usize = 1024;

/// What was asked for, by which finding, and of whom.
#[derive(Debug)]
struct Was {
    target: Target,
    finding_uid: Option<String>,
    process: Option<Process>,
}

/// What was refused for its whole hour, and what an operator lifted or withdrew. Neither lapses; a restart
/// forgets it: findings have other uids then.
#[derive(Debug, Default)]
pub struct Spent {
    ended: VecDeque<Was>,
    lifted: VecDeque<Was>,
}

impl Spent {
    /// An entry had its hour.
    pub fn add(&mut self, entry: &Entry) {
        push(&mut self.ended, &entry.target, entry.finding_uid.clone(), entry.process);
    }

    /// An operator took an automatic entry back, live or waiting.
    pub(crate) fn lift(
        &mut self,
        target: &Target,
        finding_uid: Option<String>,
        process: Option<Process>,
    ) {
        push(&mut self.lifted, target, finding_uid, process);
    }

    /// The finding has had its hour with this target; or an operator said no to what is asked for, as far as
    /// two of target, finding and process tell.
    pub fn covers(&self, request: &Request) -> bool {
        let target = |was: &Was| same(&was.target, &request.target);
        let finding = |was: &Was| was.finding_uid == request.finding_uid;
        let process = |was: &Was| was.process.is_some() && was.process == request.process;
        let agree = |was: &Was| [target(was), finding(was), process(was)];
        self.ended.iter().any(|was| target(was) && finding(was))
            || self.lifted.iter().any(|was| agree(was).iter().filter(|same| **same).count() >= 2)
    }
}

fn push(
    list: &mut VecDeque<Was>,
    target: &Target,
    finding_uid: Option<String>,
    process: Option<Process>,
) {
    if list.len() >= SPENT_MAX {
        list.pop_front();
    }
    list.push_back(Was { target: target.clone(), finding_uid, process });
}

#[cfg(test)]
mod tests {
    use hedgerow_event::Rule;

    use super::*;

    fn request(tgid: u32, target: u32, finding: &str) -> Request {
        Request {
            target: Target::TaskTree { tgid: target, start_boot_ns: 3 },
            rule: Rule::ExecUntrusted,
            seconds: 60,
            finding_uid: Some(finding.into()),
            subject: None,
            process: Some((tgid, 3)),
            mode: None,
            reason: String::new(),
        }
    }

    #[test]
    fn an_hour_that_is_over_is_over_for_its_finding_and_target() {
        let mut spent = Spent::default();
        let entry = Entry { finding_uid: Some("f".into()), ..crate::entry::tests::entry() };
        spent.add(&entry);
        assert!(spent.covers(&request(2, 2, "f")) && spent.covers(&request(9, 2, "f")));
        assert!(!spent.covers(&request(2, 2, "g")) && !spent.covers(&request(2, 7, "f")));
    }

    #[test]
    fn what_an_operator_took_back_of_a_process_stays_so_for_its_finding_and_its_target() {
        let mut spent = Spent::default();
        let of = request(2, 2, "f");
        spent.lift(&of.target, of.finding_uid.clone(), of.process);
        assert!(spent.covers(&of));
        assert!(spent.covers(&request(2, 7, "f")), "by another target");
        assert!(spent.covers(&request(2, 2, "g")), "by a fresh finding");
        assert!(!spent.covers(&request(2, 7, "g")), "something else, and fresh");
        assert!(!spent.covers(&request(9, 7, "f")), "another process of the finding");
        // Whoever was asked about before a restart.
        let mut spent = Spent::default();
        spent.lift(&of.target, of.finding_uid.clone(), None);
        assert!(spent.covers(&of) && !spent.covers(&request(2, 2, "g")));
    }
}
