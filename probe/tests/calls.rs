//! System calls counted by the live kernel. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::Sensor;
use hedgerow_probe::{Hook, Options, Proof};

#[test]
fn every_hook_is_proved() {
    let sensor = Sensor::start(Options::default());
    let hooks = sensor.control().hooks();
    for hook in [Hook::Calls, Hook::Exec, Hook::Fork, Hook::Exit, Hook::Flow] {
        let status = hooks.iter().find(|status| status.hook == hook).unwrap();
        assert_eq!(status.proof, Proof::Proved, "{hook:?} in {hooks:?}");
    }
    sensor.stop();
}
