//! Offline = online: what a daemon learned and found live, `train` and `score` learn and find again
//! from what it captured.

#![allow(clippy::unwrap_used)]

mod lived;

use lived::Lived;

#[test]
fn a_capture_gives_the_model_and_the_findings_that_the_daemon_had() {
    let lived = Lived::live(&[]);
    assert_eq!(lived.not_captured, 0);
    lived.replay(&[]);
    assert_eq!(lived.windows("windows/windows"), lived.windows("capture/windows"));
    lived.assert_replayed();
}
