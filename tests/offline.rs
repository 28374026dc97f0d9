//! Offline = online: what a daemon learned, found and denied live, `train`, `score` and `backtest`
//! learn, find and deny again from what it captured.

#![allow(clippy::unwrap_used)]

mod lived;

use lived::Lived;

#[test]
fn a_capture_gives_the_model_the_findings_and_the_entries_that_the_daemon_had() {
    let lived = Lived::live(&["--mode", "enforce", "--enforce-provisional"]);
    assert_eq!(lived.not_captured, 0);
    lived.replay(&[]);
    assert_eq!(lived.windows("windows"), lived.windows("capture/windows"));
    lived.assert_replayed();
    lived.assert_backtested();
}
