//! Learning on without learning what is wrong.
//!
//! - [`PsiReference`] and [`PsiMonitor`]: has a feature's distribution moved since training?
//! - [`compare`]: does a challenger replace the champion? A pure function of what both said about
//!   the same windows, of the budget and of drift: a slow ramp is not learned in silence.

mod champion;
mod psi;

pub use champion::{KeepReason, PromotionRule, TrialWindow, Verdict, compare};
pub use psi::{
    ColumnDrift, Drift, DriftError, PSI_ACT, PSI_BINS, PSI_MIN_ROWS, PSI_WATCH, PsiMonitor,
    PsiReference,
};
