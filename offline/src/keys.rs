//! Streams and metadata of a capture, as its writer and its readers name them.

use std::collections::BTreeMap;

use hedgerow_detect::Phase;
use hedgerow_event::Epoch;

/// Streams of a capture.
pub const WINDOWS: &str = "windows";
pub const EARLY: &str = "early";
pub const RECORDS: &str = "records";
/// What the responder's decisions rested on beside their evidence.
pub const POLICY: &str = "policy";
/// Metadata keys of a capture's files.
pub const HOST: &str = "hedgerow.host";
pub const BOOT: &str = "hedgerow.boot";
pub const SEED: &str = "hedgerow.seed";
pub const SCHEDULE: &str = "hedgerow.schedule";
pub const BUDGET: &str = "hedgerow.budget_per_day";
/// Whether every call is in the records, and whether calls were observed at all.
pub const FULL: &str = "hedgerow.full";
pub const SYSCALLS: &str = "hedgerow.syscalls";
/// Whose numbers system calls have, as Rust names it; captures of older versions don't say.
pub const ARCHITECTURE: &str = "hedgerow.architecture";
/// Wall time less time since boot at the start, in nanoseconds.
pub const OFFSET: &str = "hedgerow.realtime_offset_ns";
/// The first epoch in which the kernel took the profile for known.
pub const KNOWN_SINCE: &str = "hedgerow.known_since";
/// The model whose profile that is.
pub const MODEL: &str = "hedgerow.model";
/// The epochs after which each phase began.
pub const EDGES: &str = "hedgerow.phases";

/// The epoch after which the daemon of a capture began to score, by the files' metadata.
pub fn scoring_after(metadata: &BTreeMap<String, String>) -> Option<u32> {
    let edges: BTreeMap<u32, Phase> = serde_json::from_str(metadata.get(EDGES)?).ok()?;
    edges.into_iter().find(|(_, phase)| *phase == Phase::Scoring).map(|(epoch, _)| epoch)
}

/// The first epoch in which the kernel of a capture's daemon took the profile for known.
pub fn known_since(metadata: &BTreeMap<String, String>) -> Option<Epoch> {
    metadata.get(KNOWN_SINCE)?.parse().ok().map(Epoch)
}
