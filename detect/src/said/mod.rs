//! What is said: trees and windows against their floors, episodes, findings, evidence.

pub mod accepted;
pub mod early;
pub mod episodes;
pub mod finding;
mod judge;
pub mod questions;
