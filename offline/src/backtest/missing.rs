//! What a capture doesn't tell, and which findings hang on it.

use hedgerow_event::{Class, Finding};
use serde::Serialize;

use crate::{capture::Capture, player::Rows};

/// What is missing where a model is another one than the capture's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The order of calls, which counts in how unusual a window is.
    Order,
    /// Early looks at who did something new: what he did was found when his window closed.
    Looks,
}

impl Missing {
    pub(super) fn of(own: bool, rows: Rows) -> &'static [Self] {
        match (own, rows) {
            (_, Rows::Unordered) => &[Self::Order, Self::Looks],
            (true, _) => &[],
            (false, _) => &[Self::Looks],
        }
    }

    /// Whether a finding would be another one, or earlier, with it.
    pub(super) fn matters(self, finding: &Finding) -> bool {
        match self {
            Self::Order => finding.class == Class::Measure,
            // Only what somebody did is looked at early.
            Self::Looks => finding.process.is_some() && !finding.early,
        }
    }

    /// What is said beside such a finding.
    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Order => "judged without the order of calls",
            Self::Looks => "may come up to 5 s earlier",
        }
    }
}

/// What this capture doesn't tell.
pub(super) fn unavailable(capture: &Capture, own: bool, rows: Rows, grounds: bool) -> Vec<String> {
    let mut missing = vec![
        "what the host's kernel has hooks for: levels are those that every kernel has".to_owned(),
        "what an operator set, lifted or reset, entries of before the capture, and whether a process is \
         what its unit stands and falls with, whose entries wait for a minute"
            .to_owned(),
        "single packets: hits are flows that begin or send something, and execs".to_owned(),
    ];
    if !grounds {
        missing.push(format!(
            "{}: addresses of the host, its gateways and resolvers, and sources of admin logins: \
             entries against them are shown as if they could stand; name them under `protect` in the \
             policy",
            capture.name
        ));
        missing.push(format!(
            "{}: the orders that held, and hours of the week and peers seen before the capture: a \
             workload is taken to have been first seen in it",
            capture.name
        ));
    }
    if rows == Rows::Unordered {
        missing.push(format!(
            "{}: the order of calls and early looks, since not every call was captured (--full) and \
             the model is another one: findings that rest on family `order` can't be there, and \
             those that hang on it are marked",
            capture.name
        ));
    } else if !own {
        missing.push(format!(
            "{}: early looks, which were taken for another model: findings that may come earlier are marked",
            capture.name
        ));
    }
    missing
}
