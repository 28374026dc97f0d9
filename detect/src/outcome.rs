//! What an engine hands out.

use std::sync::Arc;

use hedgerow_event::{Evidence, Finding, Scale, Subject, Workload};
use hedgerow_features::Window;

use crate::{file::Profile, usual::schedule::Phase};

/// How one window, or early row, was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowScore {
    pub subject: Arc<Subject>,
    pub scale: Scale,
    pub epoch: u32,
    pub early: Option<u32>,
    /// Wall time since the Unix epoch.
    pub window_start_ns: i64,
    pub window_end_ns: i64,
    /// The isolation forest's (Liu 2008), in (0, 1].
    pub score: f64,
    /// How surprising the window's measure is, in nats; `None` before any was held back.
    pub surprise: Option<f64>,
    /// The surprise from which a measure notifies.
    pub floor: f64,
    /// The finding that the window is part of.
    pub finding_uid: Option<String>,
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Outcome {
    /// The kernel is to take the profile's grams for known.
    Arm(Profile),
    /// A program's file was replaced; it relearns on probation for so many of its windows.
    Replaced {
        subject: Arc<Subject>,
        windows: u64,
    },
    /// They have, and are judged as before.
    Relearned {
        subjects: Vec<Arc<Subject>>,
    },
    /// What a workload does is no longer what was learned of it: it should be learned anew.
    Drifted(Workload),
    Phase(Phase),
    /// Closed windows and early rows, for capture.
    Windows(Vec<Window>),
    /// How a window was judged.
    Scored(WindowScore),
    /// A report; with evidence where the responder may be asked.
    Finding(Box<Finding>, Option<Box<Evidence>>),
}
