//! How a daemon begins: everything opened and checked, what may fail at the start first.

use std::sync::Arc;

use anyhow::Context;
use hedgerow_detect::{Engine, SavedModel, Schedule, Settings};
use hedgerow_features::Sensors;
use hedgerow_probe::{Control as Sensor, Options, Probe, Shed, identity::Resolver, support};
use hedgerow_responder::Responder;
use hedgerow_sink::{PatientLines, Rotation};

use super::{
    Capture, Daemon, MODEL, Orders, Run,
    act::Actor,
    governor::{self, Governor},
    heartbeat::Heart,
    kept::Kept,
    named::Called,
    outlets::{Outlets, list},
    pulse::Pulse,
    recorder::Recorder,
    report::{self, Reporter},
    seen::Seen,
    service,
    usage::Accounts,
    used::Uses,
    watch::Told,
    watchdog::{Loop, Progress, Queue, Stage, Watchdog},
};
use crate::{
    config::Config,
    control::{Control, Readers, socket},
    exit::Failure,
    findings,
    host::{self, Host, State},
    metrics::{Board, Sampled, Sampler, Server},
};

/// Programs with a profile where only findings are kept; each takes 66 KiB.
const PROFILES_AGGREGATE: u32 = 64;

/// What is freed goes back to the kernel: learning takes and frees much, and dozens of threads with an
/// arena each would keep what one of them once needed. Called before threads are made.
fn thrifty() {
    /// Threads that allocate at the same time are the loop's, the drain's and a sink's at most.
    const ARENAS_MAX: libc::c_int = 2;
    /// Blocks from this size on are mapped by themselves, so that nothing small keeps them.
    const MAPPED_FROM: libc::c_int = 64 << 10;
    /// What is free at the end of an arena is kept up to here.
    const KEPT: libc::c_int = 256 << 10;
    let settings = [
        (libc::M_ARENA_MAX, ARENAS_MAX),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, KEPT),
    ];
    for (name, value) in settings {
        // SAFETY: sets numbers of the allocator; one that knows none of them goes on without.
        unsafe { libc::mallopt(name, value) };
    }
}

/// Runs until Ctrl-C or SIGTERM.
pub fn run(config: Config) -> anyhow::Result<()> {
    thrifty();
    support::require().map_err(Failure::host)?;
    let _state = State::take(&config.state)?;
    let identity_key = host::identity_key(&config.state)?;
    let host = Host::read()?;
    if let Some(directory) = &config.capture {
        host::make_capture(directory)?;
    }
    let control = Control::listen(&socket(&config.state), Readers::of(&config.state))?;
    let board = Arc::new(Board::default());
    let (metrics, board_of_server) = (config.metrics, Arc::clone(&board));
    let server = support::lowered(|| metrics.map(|listen| Server::start(listen, board_of_server)))?;
    let server = server.transpose().map_err(Failure::host)?;
    let signals = support::lowered(host::signals)??;
    let orders = Orders::load(&config.state)?;
    let saved = support::lowered(|| saved_model(&config))??;
    if let (Some(saved), Some(path)) = (&saved, &config.key_file)
        && Some(saved.seed()) != config.seed
    {
        return Err(Failure::File(format!(
            "{}: the model was learned with another key than that in {}; learn anew with --learn, or \
             leave the key file out",
            config.state.join(MODEL).display(),
            path.display()
        ))
        .into());
    }
    let seed =
        saved.as_ref().map_or_else(|| config.seed.unwrap_or_else(rand::random), SavedModel::seed);
    let settings = Settings {
        host_id: host.id.as_str().into(),
        boot_id: host.boot_id.clone(),
        schedule: Schedule::of(config.learn.as_secs()),
        budget_per_day: config.budget_per_day,
        seed,
        sensors: Sensors { rows: config.syscalls, calls: config.syscalls, ..Sensors::default() },
        realtime_offset_ns: host.realtime_offset_ns,
    };
    let learning = saved.is_none();
    // Models may start a pool of threads.
    let mut engine = support::lowered(|| match saved {
        Some(saved) => Engine::scoring(settings, saved),
        None => Engine::learning(settings),
    })??;
    // The model may be older than the word.
    engine.confirm(orders.attacks());
    let mut reporter = support::lowered(|| reporter(&config, &host, &board))??;
    let actor = Actor::start(&config, &host, identity_key, learning, &mut reporter)?;
    let run = Run {
        seed,
        schedule: learning.then(|| Schedule::of(config.learn.as_secs())),
        budget_per_day: config.budget_per_day,
        full: config.full,
        syscalls: config.syscalls,
    };
    let capture = config.capture.as_deref();
    let capture = support::lowered(|| capture.map(|path| Capture::start(path, &host, run)))?;
    let capture = capture.transpose()?;
    let governed = config.governor.is_there();
    let options = Options {
        gram_key: seed,
        identity_key,
        learning,
        full: config.full,
        calls: config.syscalls,
        rings_bytes: config.ring_bytes,
        shed: if governed {
            governor::all_shed()
        } else {
            Shed { used: config.aggregate, ..Shed::default() }
        },
        profiles: if config.aggregate { PROFILES_AGGREGATE } else { Options::default().profiles },
        usage: config.usage,
        ..Options::default()
    };
    let resolver = support::lowered(Resolver::open)?;
    let resolver = resolver.context("can't read the cgroup hierarchy").map_err(Failure::host)?;
    let (probe, items) = Probe::start(options, resolver).map_err(Failure::host)?;
    let sensor = probe.control();
    let unread = sensor.refusals();
    let (turns, ledger) = (Arc::new(Loop::new(&board)), Arc::new(Queue::default()));
    let sampled = (server.is_some() || governed).then(|| {
        let mut programs = sensor.programs();
        let deny = actor.responder.iter().flat_map(Responder::programs);
        programs.extend(deny.map(|(name, id)| (name.to_owned(), id)));
        Sampled::open(programs)
    });
    // Everything is attached and opened; threads made before did the same.
    support::lower().map_err(Failure::host)?;
    let sampler = sampled.map(|programs| Sampler::start(programs, Arc::clone(&board), governed));
    let sampler = sampler.transpose()?;
    let stages = stages(&sensor, &turns, &ledger, reporter.outlets());
    let watchdog = Watchdog::start(stages, Arc::clone(&turns))?;
    let mut recorder = Recorder::new(config.recorder_bytes);
    recorder.pause(governed);
    let governor = Governor::new(config.governor, Arc::clone(&board), learning);
    let now_ns = hedgerow_responder::now().wall_ns;
    let uses = match config.aggregate {
        true => Uses::off(),
        false => Uses::start(&config.state, now_ns, unread.clone())?,
    };
    let accounts =
        config.usage.then(|| Accounts::start(&config.state, sensor.clone(), now_ns)).transpose()?;
    let mut daemon = Daemon {
        config,
        engine,
        sensor,
        unread,
        actor,
        reporter,
        orders,
        kept: Kept::default(),
        seen: Seen::default(),
        tampered: Told::default(),
        capture,
        capture_failed: false,
        epochs: 0,
        last_close: None,
        turns,
        ledger,
        watchdog,
        overdue: 0,
        pulse: Pulse::default(),
        recorder,
        governor,
        opened: Vec::new(),
        uses,
        accounts,
        called: Called::default(),
        heart: Heart::new(&host),
        board,
        scraped: server.is_some(),
    };
    daemon.arm();
    daemon.orders_changed();
    let mode = daemon.actor.responder.as_ref().map(Responder::default_mode);
    daemon.reporter.started(&daemon.sensor, &daemon.engine, mode);
    if !governed {
        service::ready();
    }
    if let Some(address) = server.as_ref().and_then(Server::address) {
        daemon.reporter.serves(address);
    }
    let ended = daemon.pump(&items, &control, &signals);
    // Entries are lifted before anybody is waited for who may stand still.
    let stopped = daemon.stop(probe, &items, ended);
    drop((server, sampler));
    stopped
}

/// What a record, a decision or a report goes through.
fn stages(
    sensor: &Sensor,
    turns: &Arc<Loop>,
    ledger: &Arc<Queue>,
    outlets: &Outlets,
) -> Vec<Stage> {
    let (drain, names, ledger) = (sensor.clone(), sensor.clone(), Arc::clone(ledger));
    let mut stages = vec![
        Stage::new("the drain thread", move || Progress { done: drain.turns(), busy: true }),
        Stage::new("the reading of names", move || {
            let (done, busy) = names.names();
            Progress { done, busy }
        }),
        Stage::main_loop(turns),
        Stage::new("the ledger", move || ledger.progress()),
    ];
    stages.extend(outlets.stages());
    stages
}

/// Opens whatever the daemon speaks to.
fn reporter(config: &Config, host: &Host, board: &Arc<Board>) -> anyhow::Result<Reporter> {
    let file = PatientLines::new(&findings::path(&config.state), Rotation::default());
    let sinks = list::open(config)?;
    let (live, stages) = (report::is_live(config), Arc::clone(&board.stages));
    let outlets = Outlets::start(config, host, live, file, sinks, stages)?;
    let mut reporter = Reporter::new(config, host, outlets);
    if let Some(told) = config.unread_told() {
        reporter.warn(&told);
    }
    match findings::left_open(&config.state, hedgerow_responder::now().wall_ns) {
        Ok(closes) => closes.for_each(|close| {
            reporter.outlets().expect_close(&close.uid);
            reporter.finding(&close, false);
        }),
        Err(why) => reporter.warn(&format!("what an earlier run left open stays open: {why:#}")),
    }
    Ok(reporter)
}

/// The saved model, unless the operator wants to learn anew.
fn saved_model(config: &Config) -> anyhow::Result<Option<SavedModel>> {
    let path = config.state.join(MODEL);
    if config.relearn || !path.exists() {
        return Ok(None);
    }
    Ok(Some(SavedModel::load(&path).map_err(Failure::file)?))
}
