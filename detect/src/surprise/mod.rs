//! How surprising something is: the whole rule.
//!
//! - A **deed** (`hedgerow_event::CATALOGUE`) is as surprising as its kind is rare in its context:
//!   s = -ln P(one within an hour), by [`rates`].
//! - A **tree** (a process with its descendants, [`trees`]) is as surprising as the sum over the
//!   aspects of what it did until five minutes were quiet, the most surprising deed of each: conjunction
//!   adds, volume doesn't. Something grave brings along what was merely new.
//! - A **window** is as surprising as its measure is rare for its program ([`tails`]): the forest's
//!   score and the neighbours' distance over all columns, n-grams and counts among them, or the same
//!   with the order and the mix of its calls beside its program's habits (`usual/sequence.rs`),
//!   whichever is rarer; but no more
//!   than what it does to others is by itself: a program that reads, maps or orders its calls as
//!   never before may have loaded its settings anew.
//! - A **campaign** ([`campaign`]) is what several trees did within two hours, each counting with
//!   one deed: who waits, or works through other services, adds up all the same.
//! - Each **class** (intrinsic, novelty, measure) notifies above a floor of its own, solved so that
//!   false notifications of all are expected to stay below the budget ([`floors`]).
//! - At most one **notification** a class and hour ([`notices`]); the rest is listed.
//!
//! The same in every state: what changes with time is how sure the rates and floors are. So a
//! measure alone is listed, not told, until as many different hours are known as work that nobody
//! has seen yet would have shown in.

pub mod asked;
pub mod campaign;
pub mod counted;
pub mod floors;
pub mod notices;
pub mod rates;
pub mod tails;
pub mod tree;
pub mod trees;
