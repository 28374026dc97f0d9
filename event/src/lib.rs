//! Hedgerow's shared nouns: what the sensors observe, whom it concerns, how it is windowed, what
//! was found and what was decided. Plain data: no BPF, no Arrow, no IO, no clock.
//!
//! Times named `*_boot_ns` are `CLOCK_BOOTTIME` nanoseconds (`bpf_ktime_get_boot_ns`), the only
//! clock that events carry; wall time is derived per window for display.

pub mod calls;
mod deed;
mod event;
mod finding;
mod flow;
pub mod gate;
mod grams;
mod subject;
mod used;
mod verdict;
pub mod version;
mod window;

pub use deed::{Aspect, CATALOGUE, Class, Deed, DeedRow};
pub use event::{
    Actor, CLASSES, Call, Event, Exec, Exit, Fork, Origin, PATH_CUT, Provenance, Raw, Root, Row,
    RowReason, Signal,
};
pub use finding::{
    Activity, ApiOwner, ApiPod, ClaimedName, Contact, Direction, Disposition, Family, Finding,
    KnownVulnerability, Maturity, Object, PeerPod, Process, Severity, Share, Tampering,
};
pub use flow::{Flow, FlowDirection, FlowPhase, Peer, Protocol};
pub use grams::{GramReport, Grams};
pub use subject::{Digest, Program, Subject, Workload};
pub use used::{Use, Used};
pub use verdict::{
    Action, DENIAL_NATS, Evidence, FileKey, Level, Mode, Remediation, Rule, Target, Verdict,
};
pub use window::{Epoch, EpochClose, HostCounters, Loss, Scale};
