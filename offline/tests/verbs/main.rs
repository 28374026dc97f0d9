//! What is done with captures and models beside learning: exchanged, shared, asked, read.

#![allow(clippy::unwrap_used)]

#[path = "../life/mod.rs"]
mod life;

mod backtest;
mod condition;
mod exchange;
mod golden;
mod names;
mod robust;
mod schema;
mod shared;
