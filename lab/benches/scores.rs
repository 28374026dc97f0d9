//! Windows judged per second of CPU: an epoch of many subjects is closed, and each of its windows
//! becomes deviations, a score, a p-value and, if it stands out, part of a finding.
//!
//! `cargo bench -p hedgerow-lab --bench scores`
#![allow(clippy::unwrap_used)]

#[path = "../../features/tests/common/mod.rs"]
mod common;
use std::sync::Arc;

use common::{close, event, outbound, rows, subject};
use hedgerow_detect::{EPOCH_SECONDS, Engine, Outcome, Phase, Schedule, Settings};
use hedgerow_event::{FlowPhase, Subject};
use hedgerow_features::Sensors;
use rand::{Rng, SeedableRng, rngs::SmallRng};

const LEARNED_EPOCHS: u64 = 120;
const JUDGED_EPOCHS: u32 = 200;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("windows judged, thread CPU, after {LEARNED_EPOCHS} epochs of learning");
    for programs in [10, 30, 300] {
        let (windows, findings, seconds) = judge(programs);
        let (rate, each_us) = (windows as f64 / seconds, seconds * 1e6 / windows as f64);
        println!(
            "{programs:>4} programs {rate:>9.0} windows/s {each_us:>7.1} us each ({findings} findings)"
        );
    }
}

/// Windows judged, findings among them, and the CPU seconds that closing their epochs took.
fn judge(programs: usize) -> (usize, usize, f64) {
    let subjects: Vec<Arc<Subject>> = (0..programs)
        .map(|i| subject(&format!("service-{}", i % 8), &format!("/usr/bin/program-{i}")))
        .collect();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut engine = Engine::learning(Settings {
        host_id: "bench".into(),
        boot_id: "bench".into(),
        schedule: Schedule::of(LEARNED_EPOCHS * EPOCH_SECONDS),
        budget_per_day: 1.0,
        seed: 7,
        sensors: Sensors::default(),
        realtime_offset_ns: 0,
    })
    .unwrap();
    let mut epoch = 10;
    while engine.phase() != Phase::Scoring {
        live(&mut engine, &subjects, epoch, &mut rng);
        engine.close(&close(epoch)).unwrap();
        epoch += 1;
    }
    let (mut windows, mut findings, mut seconds) = (0, 0, 0.0);
    for epoch in epoch..epoch + JUDGED_EPOCHS {
        live(&mut engine, &subjects, epoch, &mut rng);
        let begun = thread_cpu_seconds();
        let outcomes = engine.close(&close(epoch)).unwrap();
        seconds += thread_cpu_seconds() - begun;
        windows += outcomes.iter().filter(|o| matches!(o, Outcome::Scored(_))).count();
        findings += outcomes.iter().filter(|o| matches!(o, Outcome::Finding(..))).count();
    }
    (windows, findings, seconds)
}

/// An epoch of ordinary life: each program calls about as often as ever, and talks to its peer.
fn live(engine: &mut Engine, subjects: &[Arc<Subject>], epoch: u32, rng: &mut SmallRng) {
    for (number, subject) in subjects.iter().enumerate() {
        let tid = 400 + 4 * number as u32;
        let calls = [(3, rng.gen_range(900..1100)), (4, rng.gen_range(400..500)), (9, 20)];
        engine.observe(&event(subject, epoch, tid, rows(&calls)));
        let peer = format!("10.0.{}.2", number % 200);
        let flow = outbound(FlowPhase::Start, &peer, 443, rng.gen_range(1000..1500));
        engine.observe(&event(subject, epoch, tid, flow));
    }
}

fn thread_cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
