//! Offline = online: what a daemon learned, found and denied live, `train`, `score` and `backtest`
//! learn, find and deny again from what it captured.

#![allow(clippy::unwrap_used)]

mod lived;

use lived::Lived;

/// Lives in which a machine with other work may lose records before the test gives up.
const LIVES: usize = 3;

#[test]
fn a_capture_gives_the_model_the_findings_and_the_entries_that_the_daemon_had() {
    let lived = (0..LIVES)
        .map(|_| Lived::live(&["--mode", "enforce", "--enforce-provisional"]))
        .find(|lived| lived.not_captured == 0)
        .expect("records were lost in each life");
    lived.replay(&[]);
    assert_eq!(lived.windows("windows"), lived.windows("capture/windows"));
    lived.assert_replayed();
    lived.assert_backtested();
}
