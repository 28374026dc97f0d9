//! Windows judged per second of CPU: an epoch of many subjects is closed, and each of its windows
//! becomes deviations, a score, a surprise and, if it stands out, part of a finding. Beside it what
//! the forest alone costs on the same rows, epoch by epoch: all of it is to cost at most 15 times
//! that.
//!
//! `cargo bench -p hedgerow-lab --bench scores`
#![allow(clippy::unwrap_used)]

#[path = "../../features/tests/common/mod.rs"]
mod common;
use std::sync::Arc;

use common::{close, event, outbound, rows, subject};
use hedgerow_detect::{EPOCH_SECONDS, Engine, Outcome, Phase, Schedule, Settings};
use hedgerow_event::{FlowPhase, Scale, Subject};
use hedgerow_features::Sensors;
use rand::{Rng, SeedableRng, rngs::SmallRng};

const LEARNED_EPOCHS: u64 = 120;
const JUDGED_EPOCHS: u32 = 2000;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("windows judged, thread CPU, after {LEARNED_EPOCHS} epochs of learning");
    println!("goals: 15 times the forest alone at most; 150,000 windows/s");
    for programs in [10, 30, 300] {
        let Cost { windows, findings, seconds, forest_seconds } = judge(programs);
        let (rate, each_us) = (windows as f64 / seconds, seconds * 1e6 / windows as f64);
        println!(
            "{programs:>4} programs {rate:>9.0} windows/s {each_us:>7.1} us each, {:>5.1} times the \
             forest alone ({findings} findings)",
            seconds / forest_seconds
        );
    }
}

/// What judging cost.
#[derive(Default)]
struct Cost {
    windows: usize,
    findings: usize,
    /// CPU that closing the epochs took.
    seconds: f64,
    /// CPU that the forest alone takes for the same rows.
    forest_seconds: f64,
}

fn judge(programs: usize) -> Cost {
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
    let mut cost = Cost::default();
    for epoch in epoch..epoch + JUDGED_EPOCHS {
        live(&mut engine, &subjects, epoch, &mut rng);
        let begun = thread_cpu_seconds();
        let outcomes = engine.close(&close(epoch)).unwrap();
        cost.seconds += thread_cpu_seconds() - begun;
        cost.windows += outcomes.iter().filter(|o| matches!(o, Outcome::Scored(_))).count();
        cost.findings += outcomes.iter().filter(|o| matches!(o, Outcome::Finding(..))).count();
        let Some(Outcome::Windows(windows)) = outcomes.first() else { continue };
        for scale in [Scale::Seconds5, Scale::Minute] {
            let Some((forest, rows)) = engine.forest_rows(scale, windows) else { continue };
            let begun = thread_cpu_seconds();
            std::hint::black_box(forest.mean_path_lengths(rows.view()));
            cost.forest_seconds += thread_cpu_seconds() - begun;
        }
    }
    cost
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
