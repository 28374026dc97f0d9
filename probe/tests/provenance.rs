//! Where an executed file comes from, on the live kernel: layers of containers. Needs root.
#![allow(clippy::unwrap_used)]

mod harness;
mod sandbox;

use std::time::Duration;

use harness::{Seen, Sensor};
use hedgerow_event::{Exec, Origin, Provenance};
use hedgerow_probe::Options;
use sandbox::{Cgroup, image, in_container};

fn sensor() -> Sensor {
    let window = Duration::from_millis(300);
    let options = Options { window, flows: false, observe_own: true, ..Options::default() };
    Sensor::filtered(options, |event| matches!(event.origin, Origin::Exec(_)))
}

/// The last exec of this test's own children whose arguments hold `mark`.
#[track_caller]
fn marked<'a>(seen: &'a Seen, mark: &str) -> &'a Exec {
    let us = std::process::id();
    let execs = seen.events.iter().filter_map(|event| match &event.origin {
        Origin::Exec(exec) if exec.parent_tgid == us => Some(&**exec),
        _ => None,
    });
    let found = execs.filter(|exec| exec.arguments.contains(mark)).last();
    found.unwrap_or_else(|| panic!("no exec with {mark}"))
}

#[test]
fn a_file_of_the_image_is_told_from_one_that_was_written_into_the_container() {
    let lower = image();
    let base = Cgroup::new("provenance");
    let sensor = sensor();
    let run = |name: &str, script: &str| {
        assert!(in_container(
            lower.path(),
            &base.child(name),
            &["/bin/busybox", "sh", "-c", script]
        ));
    };
    run("image", "exec /bin/busybox true of-the-image");
    run("copy", "/bin/busybox cp /bin/busybox /bin/true && exec /bin/true written");
    run("touch", "/bin/busybox chmod 711 /bin/busybox && exec /bin/busybox true changed");
    let seen = sensor.stop();
    let provenance = |mark| marked(&seen, mark).provenance;
    assert_eq!(provenance("of-the-image"), Provenance::Image);
    assert_eq!(provenance("written"), Provenance::Drift);
    assert_eq!(provenance("changed"), Provenance::Drift, "it was copied up");
}
