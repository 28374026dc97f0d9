//! Golden screens at 80x24 (`golden/`), and what keys do.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use hedgerow_detect::{NATS, Phase};
use hedgerow_event::{
    Action, Direction, Finding, Level, Maturity, Mode, Process, Program, Remediation, Rule,
    Severity, Share, Subject, Target, Workload,
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::Color,
};

use super::{
    asked::{Answer, FINDINGS_MAX, News, keep},
    screen,
    view::{Act, Over, Tab, View},
};
use crate::control::{Entries, Modes, Removed, WorkloadMode, WorkloadNow, examples};

/// As long as uids of entries are.
const UID: &str = "1159e835-152b-4c04-88a8-0cc60f3d370c-2a133987b12a7595";
const NOW_NS: i64 = 1_795_391_999_000_000_000;
/// A name that would clear the screen and turn what follows around.
const HOSTILE: &str = "evil\u{1b}[2J\u{202e}.service";

fn subject(workload: &str) -> Arc<Subject> {
    Subject::new(Workload::new(workload), Program::new("/usr/bin/bash")).into()
}

fn finding(uid: &str, workload: &str) -> Finding {
    let share = |feature: &str, share: f64| Share {
        feature: feature.into(),
        value: 1.0,
        usual_low: None,
        usual_high: None,
        direction: Direction::Above,
        share,
        of: NATS.into(),
    };
    Finding {
        uid: uid.into(),
        state: Maturity::Provisional,
        subject: subject(workload),
        severity: Severity::High,
        surprise: 22.8,
        attribution: vec![share("socket_streams", 0.6), share("exec_memory", 0.4)],
        process: Some(Process {
            pid: 17_004,
            command_line: "bash -i \u{1b}]0;x\u{7}".into(),
            user: Some("www-data".into()),
            ..Process::default()
        }),
        ..crate::daemon::example_finding(workload, "why", NOW_NS)
    }
}

fn entry() -> Remediation {
    Remediation {
        uid: UID.into(),
        finding_uid: Some("b63b9a68daa6".into()),
        action: Action::Block,
        target: Target::TaskTree { tgid: 17_004, start_boot_ns: 9 },
        subject: Some(subject("web.service")),
        rule: Rule::GraveDeed,
        mode: Mode::Enforce,
        level: Level::PreventsNetwork,
        host_id: "h".into(),
        time_ns: NOW_NS - 10_000_000_000,
        expires_ns: NOW_NS + 50_000_000_000,
        hits: 12,
        sockets_destroyed: 1,
        reason: "socket_streams and exec_memory of one tree".into(),
    }
}

fn view(colour: bool) -> View {
    let now = |workload: &str, state, calls, surprise| WorkloadNow {
        workload: Workload::new(workload),
        state,
        events_per_second: calls / 100.0,
        calls_per_second: calls,
        surprise,
    };
    let mut status = examples::status();
    status.phase = Phase::Scoring;
    status.state = Maturity::Provisional;
    (status.lost, status.events_per_second) = (0, 870.4);
    status.workloads = vec![
        now("postgresql.service", Maturity::Mature, 12_345.0, Some(0.4)),
        now("web.service", Maturity::Provisional, 420.0, Some(7.25)),
        now(HOSTILE, Maturity::Learning, 3.0, None),
    ];
    status.modes = Some(Modes {
        mode: Mode::Enforce,
        armed: true,
        enforce_provisional: false,
        halted: None,
        tripped: Vec::new(),
        workloads: vec![WorkloadMode {
            workload: Workload::new("postgresql.service"),
            mode: Mode::Enforce,
            own: true,
            in_force: Mode::Monitor,
            missing: vec!["3 of 7 days watched".into()],
            days: 3,
            hours: 70,
        }],
    });
    let entries = Entries { live: vec![entry()], held: Vec::new(), armed: Some(true) };
    let findings = vec![finding("b63b9a68daa6", "web.service"), finding("aaaa0000", HOSTILE)];
    let answer = Answer { status, entries, findings, unread: None, time_ns: NOW_NS };
    let mut view = View::new(colour);
    view.now_ns = NOW_NS;
    view.take(News::Answer(Box::new(answer)));
    view
}

fn drawn(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        screen::render(view, frame.area(), frame.buffer_mut());
    };
    terminal.draw(draw).unwrap();
    terminal
}

fn shown(view: &View, width: u16, height: u16) -> String {
    let terminal = drawn(view, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

#[track_caller]
fn is_golden(view: &View, golden: &str) {
    let screen = shown(view, 80, 24);
    assert!(screen == golden, "the screen is\n{screen}\nand not\n{golden}");
}

fn press(view: &mut View, code: KeyCode) -> Act {
    view.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn workloads_are_told_with_rates_state_and_surprise() {
    is_golden(&view(false), include_str!("golden/workloads.txt"));
}

#[test]
fn a_finding_is_told_in_words_with_the_share_of_each_deed() {
    let mut view = view(false);
    press(&mut view, KeyCode::Char('2'));
    is_golden(&view, include_str!("golden/findings.txt"));
}

#[test]
fn an_entry_is_told_with_what_it_did_and_the_question_before_it_is_lifted() {
    let mut view = view(false);
    press(&mut view, KeyCode::Char('3'));
    press(&mut view, KeyCode::Char('l'));
    is_golden(&view, include_str!("golden/entries.txt"));
}

#[test]
fn nothing_is_lifted_without_a_yes_and_only_what_was_asked_about() {
    let mut view = view(false);
    press(&mut view, KeyCode::Char('l'));
    assert!(view.over == Over::Nothing && view.notice.is_some(), "workloads are not lifted");
    press(&mut view, KeyCode::Tab);
    press(&mut view, KeyCode::Tab);
    assert_eq!(view.tab, Tab::Entries);
    press(&mut view, KeyCode::Char('l'));
    assert_eq!(press(&mut view, KeyCode::Enter), Act::Stay);
    assert!(view.over == Over::Nothing && view.notice.as_deref() == Some("Nothing was lifted."));
    press(&mut view, KeyCode::Char('l'));
    // Another entry comes to stand where this one stood.
    let mut answer = view.answer.clone().unwrap();
    answer.entries.live.insert(0, Remediation { uid: "other".into(), ..entry() });
    view.take(News::Answer(Box::new(answer)));
    assert_eq!(press(&mut view, KeyCode::Char('y')), Act::Lift(UID.into()));
    let removed = Removed { lifted: vec![entry()], ..Removed::default() };
    view.take(News::Lifted(Ok(removed)));
    let told = "Lifted 2a133987 after 12 hits: task tree of process 17004\n";
    assert!(shown(&view, 80, 24).contains(told));
    view.take(News::Lifted(Err("no such entry".into())));
    assert!(shown(&view, 80, 24).contains("Not lifted: no such entry"));
}

#[test]
fn what_is_asked_and_told_is_whole_on_80_columns_however_long_its_target() {
    let foot = |screen: &str| screen.lines().nth(22).unwrap().to_owned();
    let peer = |address: [u8; 4]| Target::Peer {
        address: address.into(),
        prefix_length: 32,
        cgroup_id: 0,
        program_id: 0,
    };
    let long = |path: String| Target::Cgroup { cgroup_id: 7, path: path.into() };
    let answers = " (2a133987)? y lifts it, any other key doesn't";
    for target in [peer([192, 0, 2, 9]), long("/kube/pod".repeat(99)), long("面\u{1b}".repeat(99))]
    {
        let mut view = view(false);
        let mut answer = view.answer.clone().unwrap();
        let lifted = Remediation { target: target.clone(), ..entry() };
        answer.entries.live = vec![lifted.clone()];
        view.take(News::Answer(Box::new(answer)));
        press(&mut view, KeyCode::Char('3'));
        press(&mut view, KeyCode::Char('l'));
        let asked = foot(&shown(&view, 80, 24));
        assert!(asked.ends_with(answers), "{asked}");
        let is_whole = matches!(target, Target::Peer { .. });
        assert_eq!(asked == format!("Lift peer 192.0.2.9/32{answers}"), is_whole, "{asked}");
        assert_eq!(asked.contains('…'), !is_whole, "{asked}");
        press(&mut view, KeyCode::Char('y'));
        view.take(News::Lifted(Ok(Removed { lifted: vec![lifted], ..Removed::default() })));
        let told = foot(&shown(&view, 80, 24));
        assert!(told.starts_with("Lifted 2a133987 after 12 hits: "), "{told}");
        assert_eq!(told.contains('…'), !is_whole, "{told}");
    }
}

#[test]
fn while_it_learns_the_first_lines_are_whole() {
    let mut view = view(false);
    let mut answer = view.answer.clone().unwrap();
    let status = &mut answer.status;
    (status.phase, status.mode, status.seconds_left) = (Phase::Calibrate, None, 86_340);
    (status.programs, status.events_per_second) = (51, 274.0);
    view.take(News::Answer(Box::new(answer)));
    let screen = shown(&view, 80, 24);
    let first = "Hedgerow  learning (calibrate), scores in 23 h 59 m; no deny hooks\n\
                 51 programs, 274 records/s; lost 0 of 200 (0.000 %)\n";
    assert!(screen.starts_with(first), "{screen}");
}

#[test]
fn what_is_chosen_stays_chosen_when_rows_move() {
    let mut view = view(false);
    press(&mut view, KeyCode::Down);
    assert_eq!(view.chosen(), 1);
    let mut answer = view.answer.clone().unwrap();
    answer.status.workloads.reverse();
    answer.status.workloads.remove(0);
    view.take(News::Answer(Box::new(answer)));
    assert_eq!(view.chosen(), 0);
    assert!(shown(&view, 80, 24).contains("> web.service"));
    (0..30).for_each(|_| drop(press(&mut view, KeyCode::PageDown)));
    assert_eq!(view.chosen(), 1, "there is no row past the last");
}

#[test]
fn a_daemon_that_hangs_or_ends_is_told_with_the_time_and_what_was_known_stays() {
    let mut view = view(false);
    assert!(shown(&view, 80, 24).contains("nothing is wrong with it"));
    view.now_ns += 4_000_000_000;
    let hangs = shown(&view, 80, 24);
    let since =
        "\nNO ANSWER since 2026-11-22 23:59:59; what is shown is of then\nit doesn't answer\n";
    assert!(hangs.contains(since), "{hangs}");
    assert!(hangs.contains("postgresql.service"), "{hangs}");
    view.take(News::Silence("no daemon answers on /x".into()));
    assert!(shown(&view, 80, 24).contains("no daemon answers on /x"));
    let answer = view.answer.clone().unwrap();
    view.take(News::Answer(Box::new(Answer { time_ns: view.now_ns, ..answer })));
    assert!(!shown(&view, 80, 24).contains("NO ANSWER"));
}

#[test]
fn what_strangers_named_is_escaped_in_each_tab_and_question() {
    let mut view = view(false);
    let mut answer = view.answer.clone().unwrap();
    answer.entries.live[0].subject = Some(subject(HOSTILE));
    view.take(News::Answer(Box::new(answer)));
    for tab in ['1', '2', '3'] {
        press(&mut view, KeyCode::Char(tab));
        let screen = shown(&view, 200, 24);
        assert!(screen.contains("evil\\x1b[2J\\u{202e}.service"), "{screen}");
        assert!(!screen.chars().any(|letter| letter != '\n' && letter.is_control()), "{screen:?}");
        assert!(!screen.contains('\u{202e}'), "{screen:?}");
    }
}

#[test]
fn without_colour_the_screen_says_the_same() {
    for tab in ['1', '2', '3'] {
        let [mut plain, mut coloured] = [view(false), view(true)];
        press(&mut plain, KeyCode::Char(tab));
        press(&mut coloured, KeyCode::Char(tab));
        assert_eq!(shown(&plain, 80, 24), shown(&coloured, 80, 24));
        let cells = |view: &View| -> Vec<Color> {
            let terminal = drawn(view, 80, 24);
            let cells = terminal.backend().buffer().content().iter();
            cells.flat_map(|cell| [cell.fg, cell.bg]).filter(|one| *one != Color::Reset).collect()
        };
        assert!(cells(&plain).is_empty(), "NO_COLOR: {:?}", cells(&plain));
        assert!(!cells(&coloured).is_empty(), "tab {tab}");
    }
}

#[test]
fn help_lists_the_keys_and_the_next_key_closes_it() {
    let mut view = view(false);
    press(&mut view, KeyCode::Char('?'));
    assert!(shown(&view, 80, 24).contains("lift the chosen entry"));
    assert_eq!(press(&mut view, KeyCode::Char('q')), Act::Stay);
    assert!(!shown(&view, 80, 24).contains("lift the chosen entry"));
    assert_eq!(press(&mut view, KeyCode::Char('q')), Act::Quit);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.key(ctrl_c), Act::Quit);
}

#[test]
fn any_size_is_drawn_and_one_that_is_too_small_says_so() {
    let mut view = view(true);
    for whole in [false, true] {
        view.whole = whole;
        for (width, height) in [(1, 1), (39, 24), (40, 12), (80, 11), (81, 25), (300, 100)] {
            shown(&view, width, height);
        }
    }
    assert!(shown(&view, 39, 24).contains("needs 40x12"));
    let empty = View::new(true);
    assert!(shown(&empty, 80, 24).contains("asking the daemon"));
}

#[test]
fn findings_are_kept_once_as_told_last_and_only_the_newest() {
    let mut kept = Vec::new();
    let update = Finding { surprise: 30.0, ..finding("a", "w") };
    let close = Finding {
        activity: hedgerow_event::Activity::Close,
        reason: "it ended".into(),
        ..finding("a", "w")
    };
    let listed =
        Finding { disposition: hedgerow_event::Disposition::Suppressed, ..finding("listed", "w") };
    keep(&mut kept, vec![finding("a", "w"), listed, finding("b", "w"), update, close]);
    let told: Vec<(&str, f64)> = kept.iter().map(|one| (&*one.uid, one.surprise)).collect();
    assert_eq!(told, [("a", 30.0), ("b", 22.8)]);
    assert_eq!(kept[0].reason, "why");
    let many = (0..FINDINGS_MAX + 5).map(|number| finding(&number.to_string(), "w")).collect();
    keep(&mut kept, many);
    assert_eq!((kept.len(), &*kept[0].uid), (FINDINGS_MAX, "5"));
}
