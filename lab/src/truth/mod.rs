//! `make truth`: what the product finds, and what it makes of rare benign work, measured on one
//! recording of real attacks and real loads that is spliced into many lives.
//!
//! [`Recording`] runs the loads side by side under a daemon that stores every call, first as plain
//! life, then with one act after another, each marked. [`Tape`] reads it once. A life
//! ([`judge()`]) learns from blocks of the first part and is judged on blocks of the second, with
//! one act in its place among them; no block is learned from and judged on. [`Table`] adds up.
//!
//! Columns that depend on a profile are computed for each life against its own: the tape holds, for
//! each row, which n-grams ended how many calls; a row's unseen counts are a lookup of those in the
//! profile that the life's engine armed. A program without a profile is unprofiled, as it is with a
//! daemon that gives no more slots. What the recording daemon's own kernel took for known is left out.
//!
//! A learned state meets each act in a copy of its process, so that acts don't see each other and the
//! engine need not be saved.

use std::{path::Path, time::Duration};

use crate::Load;

pub mod acts;
mod document;
mod isolate;
mod judge;
mod life;
mod lineage;
mod marks;
mod session;
mod stats;
mod table;
mod tape;

pub use document::put;
pub use judge::{Acts, Plan, Rule, State, Tried, judge};
pub(crate) use life::Placed;
pub use marks::{Class, Mark, Session};
pub use session::Recording;
pub use table::{Asked, Change, Plain, Row, Table, duration};
pub use tape::{Naming, Tape};

/// Two and a half minutes of two loads and two kinds of attack, to see that all of it works.
///
/// # Errors
/// What the lab, the daemon or the disk refuse; a recording with holes, as a busy machine makes.
pub fn quick(hedgerow: &Path, directory: &Path, tell: fn(&str)) -> anyhow::Result<Table> {
    let recording = Recording {
        hedgerow,
        directory,
        length: Duration::from_secs(150),
        loads: &[Load::App, Load::Web],
        kinds: &["fileless-python".to_owned(), "reverse-shell-bash".to_owned()],
        tell,
    };
    recording.make()?;
    let tape = Tape::read(directory)?;
    let (lost, holes) = (tape.lost, tape.session.not_written);
    anyhow::ensure!(
        lost + holes == 0 && tape.missing == 0,
        "{lost} records lost, {holes} not written"
    );
    let plan = Plan {
        rule: Rule::Whole,
        acts: Acts::All,
        learn_s: vec![120],
        namings: Naming::ALL.to_vec(),
        states: 1,
        plain_hours: 0.0,
        budget_per_day: 1.0,
    };
    let states = judge(&tape, &plan, &mut |_| {})?;
    Ok(Table::new(states, Vec::new(), Vec::new(), plan.budget_per_day))
}
