//! What can be asked of captures, on files alone: no kernel, no broker, no rights but to read.
//!
//! [`ask`] is what a command line names, and [`source`] finds the runs in it; [`capture`] reads one; [`player`] feeds it
//! to an engine, in the order of delivery, as the daemon did; [`train`] and [`score`] are that from
//! end to end. [`eval`] holds a model against labels, [`backtest`] a policy against the past, and
//! [`report`] tells what was learned. [`exchange`] gives a model's forest away as ONNX and takes one
//! in, [`merge`] makes one model of many, [`share`] makes a capture that can be given away. [`traces`] has sequences of calls out of
//! published data measured.

pub mod ask;
pub mod backtest;
pub mod capture;
pub mod condition;
mod error;
pub mod eval;
pub mod exchange;
pub mod files;
pub mod fleet;
pub mod holes;
pub mod keys;
pub mod labels;
pub mod merge;
pub mod page;
pub mod past;
pub mod player;
pub mod report;
pub mod schema;
pub mod score;
pub mod scores;
pub mod share;
pub mod source;
pub mod time;
pub mod traces;
pub mod train;
mod trees;
pub mod windows;

pub use error::{Error, Result};
