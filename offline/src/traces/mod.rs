//! Sequences of system calls out of published data, as what the sensor would have told of them.
//!
//! A trace is one process's life: the numbers or names of its calls, in order, and nothing else. The
//! adapter maps them ([`mapping`]), reads them ([`read`]) and cuts windows ([`life`]); from there on
//! it is the product: the extractor makes rows and n-grams, the engine learns ranges, n-grams,
//! forest and neighbours, and measures ([`judge`]). What a trace doesn't tell (arguments, results,
//! times, files, peers) is unavailable, so that there are no deeds.

pub mod judge;
pub mod life;
pub mod mapping;
pub mod read;

/// One process's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its file, below the directory that was read.
    pub name: String,
    /// Native numbers; [`mapping::NONE`] for a call that this architecture doesn't have.
    pub calls: Vec<i32>,
}
