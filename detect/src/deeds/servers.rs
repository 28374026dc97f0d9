//! Programs that serve connections for a living, told by their calls while they are learned. Whether a
//! process listens is known of TCP alone; what serves a socket of the file system (PHP or Python behind
//! a web server) accepts all the same. A control socket that somebody asks now and then makes no server
//! of a daemon that starts others for a living.

use std::collections::BTreeMap;

use hedgerow_event::{Event, Row, calls::Class};
use serde::{Deserialize, Serialize};

use crate::parts;

/// Programs that are counted; one past them serves nobody.
pub const SERVERS_MAX: usize = 4_096;
/// Epochs in which a server accepted connections, at least, and the part of all in which it ran that
/// they are.
const SERVED_LEAST: u32 = 8;
const SERVED_SHARE: u32 = 4;

/// Epochs of a program in its workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Epochs {
    ran: u32,
    served: u32,
    last_ran: Option<u32>,
    last_served: Option<u32>,
}

/// By the hash of a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    epochs: BTreeMap<u64, Epochs>,
    refused: u64,
}

impl Servers {
    /// Adds what another run taught. What overflows keeps what has the least hashes, so that the order
    /// of runs decides nothing; that something was refused is told as 1.
    pub fn absorb(&mut self, other: Self) {
        for (subject, theirs) in other.epochs {
            let own = self.epochs.entry(subject).or_default();
            let ran = own.ran.saturating_add(theirs.ran);
            let served = own.served.saturating_add(theirs.served);
            *own = Epochs { ran, served, ..Epochs::default() };
        }
        let over = self.epochs.len() > SERVERS_MAX;
        parts::keep(&mut self.epochs, SERVERS_MAX);
        self.refused = self.refused.max(other.refused).min(1).max(u64::from(over));
    }

    /// Notes a thread's calls of an epoch of learning.
    pub fn learn(&mut self, subject: u64, event: &Event, row: &Row) {
        if self.epochs.len() >= SERVERS_MAX && !self.epochs.contains_key(&subject) {
            self.refused += 1;
            return;
        }
        let epoch = event.epoch.0;
        let epochs = self.epochs.entry(subject).or_default();
        if epochs.last_ran.replace(epoch) != Some(epoch) {
            epochs.ran += 1;
        }
        let accepts = row.classes[Class::Accept.index()] > 0;
        if accepts && epochs.last_served.replace(epoch) != Some(epoch) {
            epochs.served += 1;
        }
    }

    pub fn has(&self, subject: u64) -> bool {
        self.epochs.get(&subject).is_some_and(|epochs| {
            epochs.served >= SERVED_LEAST
                && epochs.served.saturating_mul(SERVED_SHARE) >= epochs.ran
        })
    }

    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hedgerow_event::{Origin, Program, Subject, Workload};

    use super::*;
    use crate::common;

    /// Epochs of a program that accepts connections in every other one.
    fn run(epochs: std::ops::Range<u32>) -> Servers {
        let subject = Subject::new(Workload::new("web.service"), Program::new("/usr/bin/php"));
        let mut servers = Servers::default();
        for epoch in epochs {
            let calls = [(Class::Accept.index(), epoch % 2), (Class::Read.index(), 5)];
            let event = common::event(&Arc::new(subject.clone()), epoch, 4, common::rows(&calls));
            let Origin::Row(row) = &event.origin else { continue };
            servers.learn(1, &event, row);
        }
        servers
    }

    #[test]
    fn runs_add_up_in_any_order() {
        let (mut one, mut other) = (run(0..14), run(0..6));
        assert!(!one.has(1) && !other.has(1));
        let first = one.clone();
        one.absorb(other.clone());
        other.absorb(first);
        assert_eq!(one, other);
        assert!(one.has(1) && !one.has(2));
    }
}
