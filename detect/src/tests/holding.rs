//! Whom noise hides.

use super::*;

/// Many novelties of others, and of the same workload, come before: what a denial could rest on is looked at
/// at once.
#[test]
fn noise_keeps_nobody_from_being_looked_at_early() {
    let mut host = Host::new();
    let mut engine = host.learn(60);
    host.live(&mut engine);
    let other = common::subject("job.service", "/x");
    for noise in 0..1500 {
        let mut exec = host.exec(&format!("/usr/bin/{noise}"), 1000 + noise, "/usr/sbin/web");
        if let Origin::Exec(exec) = &mut exec.origin {
            exec.under_listener = false;
        }
        if noise % 2 == 0 {
            let program = exec.actor.subject.program.clone();
            exec.actor.subject = Arc::new(Subject::new(other.workload.clone(), program));
        }
        engine.observe(&exec);
    }
    engine.observe(&host.exec("/bin/bash", 200, "/usr/sbin/web"));
    engine.observe(&host.flow("/bin/bash", 200, [192, 0, 2, 9], 10));
    let now = u64::from(host.epoch) * 5_000_000_000 + 3;
    let mut looked = 0;
    let early = engine.look_early(now, |tgid| {
        looked += 1;
        vec![host.row("/bin/bash", tgid, &[(3, 20)])]
    });
    assert_eq!(asked(early).concat(), [200]);
    assert!(looked <= 64, "{looked}");
    assert!(engine.hard.len() <= 1024);
}
