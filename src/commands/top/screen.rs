//! The screen, drawn from a [`View`] alone. Colour only underlines what words say, and what the host
//! names is escaped where it becomes a line.

use hedgerow_detect::{NATS, Phase};
use hedgerow_event::{CATALOGUE, Finding, Level, Maturity, Severity, gate};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Clear, Paragraph, Row, StatefulWidget, Table, TableState, Widget, Wrap},
};

use super::view::{Entry, Over, Tab, View, short};
use crate::{
    commands::status,
    control::{Status, WorkloadMode},
    text,
};

/// Less than this shows nothing whole.
const LEAST: (u16, u16) = (40, 12);
/// Lines of what is chosen.
const DETAILS: u16 = 9;
/// Rows of the list beside a chosen one that is shown whole.
const BESIDE: u16 = 4;

const HELP: &[&str] = &[
    "1 2 3, Tab    workloads, findings, entries",
    "up down       choose; Page Up and Page Down by ten",
    "Enter         show more of what is chosen, and less again",
    "l             lift the chosen entry, after a question; as `hedgerow deny remove UID`",
    "q, Ctrl-C     leave; the daemon goes on",
    "",
    "calls/s and records/s are of the last 5 s. Surprise is in nats: -ln of the probability of such",
    "within an hour; 8 nats are expected once in four months. A finding's shares add up to its nats.",
    "state: learning, provisional (judged, not sure yet), mature.",
    "More: hedgerow why UID, hedgerow findings show UID --explain, hedgerow status.",
];

/// What an area shows of a view.
pub fn render(view: &View, area: Rect, buffer: &mut Buffer) {
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let told = format!("needs {}x{} characters; q leaves", LEAST.0, LEAST.1);
        return Line::raw(told).render(area, buffer);
    }
    let details = match view.whole {
        true => area.height.saturating_sub(7 + BESIDE),
        false => DETAILS.min(area.height / 3),
    };
    let [head, tabs, list, rule, chosen, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(details),
        Constraint::Length(2),
    ])
    .areas(area);
    Paragraph::new(heading(view, head.width.into())).render(head, buffer);
    tab_line(view).render(tabs, buffer);
    match view.tab {
        Tab::Workloads => workloads(view, list, buffer),
        Tab::Findings => findings(view, list, buffer),
        Tab::Entries => entries(view, list, buffer),
    }
    Line::raw("─".repeat(rule.width.into())).render(rule, buffer);
    let lines = match view.tab {
        Tab::Workloads => workload_details(view),
        Tab::Findings => finding_details(view),
        Tab::Entries => entry_details(view),
    };
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(chosen, buffer);
    Paragraph::new(footer(view, foot.width.into())).render(foot, buffer);
    if view.over == Over::Help {
        help(area, buffer);
    }
}

/// A line that strangers had a part in.
fn line(text: &str) -> Line<'static> {
    Line::raw(gate::shown(text).into_owned())
}

/// So much of it as has room in these columns; that some is missing shows.
fn cut(text: &str, columns: usize) -> String {
    let shown = gate::shown(text);
    if Span::raw(&*shown).width() <= columns {
        return shown.into_owned();
    }
    let mut kept: String = shown.chars().take(columns.saturating_sub(1)).collect();
    while Span::raw(&*kept).width() >= columns && kept.pop().is_some() {}
    kept + "…"
}

/// A line that is never wrapped.
fn fitted(text: &str, columns: usize) -> Line<'static> {
    Line::raw(cut(text, columns))
}

fn cell(text: &str) -> Cell<'static> {
    Cell::new(line(text))
}

/// A number that stands at the right of its column.
fn number(text: String) -> Cell<'static> {
    Cell::new(Line::raw(text).right_aligned())
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Bold, and in colour where that is wanted.
fn marked(view: &View, colour: Color) -> Style {
    if view.colour { bold().fg(colour) } else { bold() }
}

fn heading(view: &View, columns: usize) -> Vec<Line<'static>> {
    let Some(answer) = &view.answer else {
        let why = view.silence.as_deref().unwrap_or("asking the daemon");
        return vec![fitted(&format!("Hedgerow: {why}"), columns)];
    };
    let status = &answer.status;
    let refused = match (status.mode, status.armed) {
        (None, _) => "no deny hooks".to_owned(),
        (_, Some(false)) => "DISARMED".to_owned(),
        (Some(mode), _) => format!("mode {mode}"),
    };
    let rates = format!(
        "{}, {} records/s",
        text::counted(status.programs, "program", "programs"),
        text::count(status.events_per_second)
    );
    let budget = &status.budget;
    // Nothing is told while it learns, so that there is no budget to speak of.
    let (first, second) = match status.phase {
        Phase::Scoring => (
            format!("scoring, {}; {refused}; {rates}", status.state),
            format!(
                "budget: {} a day asked, {:.2} expected, {} had",
                budget.asked_per_day, budget.expected_per_day, status.told_today
            ),
        ),
        phase => {
            let (phase, left) = (text::phase(phase), text::seconds(status.seconds_left));
            (format!("learning ({phase}), scores in {left}; {refused}"), rates)
        }
    };
    let first = fitted(&format!("Hedgerow  {first}"), columns).style(bold());
    let red = marked(view, Color::Red);
    if let Some((since, why)) = view.silent() {
        let since = since.map_or("the start".to_owned(), text::time);
        let told = format!("NO ANSWER since {since}; what is shown is of then");
        return vec![first, fitted(&told, columns).style(red), fitted(why, columns).style(red)];
    }
    let share = status.lost as f64 / (status.sent.max(1) as f64) * 100.0;
    let sent = text::count(status.sent as f64);
    let second = format!("{second}; lost {} of {sent} ({share:.3} %)", status.lost);
    let second = match status.lost {
        0 => fitted(&second, columns),
        _ => fitted(&second, columns).style(marked(view, Color::Yellow)),
    };
    vec![first, second, health(view, status, columns)]
}

/// What is wrong, the gravest first.
fn health(view: &View, status: &Status, columns: usize) -> Line<'static> {
    let unread = view.answer.as_ref().and_then(|answer| answer.unread.as_ref());
    let mut wrong = status::trouble(status);
    wrong.extend(unread.map(|why| format!("findings are not read: {why}")));
    let host = status.maintenance.iter().find(|one| one.workload.is_none());
    wrong.extend(host.map(|one| format!("maintenance until {}", text::time(one.until_ns))));
    let yellow = marked(view, Color::Yellow);
    match wrong.split_first() {
        None => line("the daemon answers; nothing is wrong with it"),
        Some((first, [])) => fitted(first, columns).style(yellow),
        Some((first, rest)) => {
            let more = format!(" (and {} more: hedgerow status)", rest.len());
            let first = cut(first, columns.saturating_sub(more.len()));
            line(&(first + &more)).style(yellow)
        }
    }
}

fn tab_line(view: &View) -> Line<'static> {
    let more = view.answer.as_ref().map_or(0, |answer| answer.status.workloads_more);
    let counts = [view.workloads().len() + more, view.findings().len(), view.entries().len()];
    let spans = Tab::ALL.into_iter().zip(counts).flat_map(|(tab, count)| {
        let name = format!("{} {} ({count})", tab as usize + 1, tab.name());
        let span = match tab == view.tab {
            true => Span::styled(format!("[{name}]"), bold().add_modifier(Modifier::REVERSED)),
            false => Span::raw(format!(" {name} ")),
        };
        [span, " ".into()]
    });
    Line::from_iter(spans)
}

/// A list with the chosen row marked by a sign, not by its look alone.
fn list(
    view: &View,
    (heads, widths): (Vec<Cell<'static>>, Vec<Constraint>),
    rows: Vec<Row<'static>>,
    area: Rect,
    buffer: &mut Buffer,
) {
    let mut state = TableState::new();
    state.select((!rows.is_empty()).then(|| view.chosen()));
    let table = Table::new(rows, widths)
        .header(Row::new(heads).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .highlight_symbol("> ")
        .row_highlight_style(bold());
    StatefulWidget::render(table, area, buffer, &mut state);
}

/// How far the responder may go in a workload, as far as that is known.
fn mode_of<'a>(view: &'a View, workload: &str) -> Option<&'a WorkloadMode> {
    let modes = view.answer.as_ref()?.status.modes.as_ref()?;
    modes.workloads.iter().find(|one| one.workload.as_str() == workload)
}

fn found_in(view: &View, workload: &str) -> usize {
    view.findings().iter().filter(|one| one.subject.workload.as_str() == workload).count()
}

fn workloads(view: &View, area: Rect, buffer: &mut Buffer) {
    let fixed = [11, 7, 7, 9, 8, 8].map(Constraint::Length);
    let widths = [Constraint::Fill(1)].into_iter().chain(fixed).collect();
    let right = |text: &str| number(text.to_owned());
    let heads = vec![
        cell("workload"),
        cell("state"),
        cell("mode"),
        right("calls/s"),
        right("records/s"),
        right("surprise"),
        right("findings"),
    ];
    let rows = view.workloads().iter().map(|one| {
        let name = one.workload.as_str();
        let state = match one.state {
            Maturity::Mature => cell("mature"),
            state => cell(&state.to_string()).style(marked(view, Color::Cyan)),
        };
        let mode = mode_of(view, name).map_or("-".into(), |mode| mode.in_force.to_string());
        Row::new(vec![
            cell(name),
            state,
            cell(&mode),
            number(text::count(one.calls_per_second)),
            number(text::count(one.events_per_second)),
            number(one.surprise.map_or("-".into(), |nats| format!("{nats:.1}"))),
            number(found_in(view, name).to_string()),
        ])
    });
    list(view, (heads, widths), rows.collect(), area, buffer);
}

fn workload_details(view: &View) -> Vec<Line<'static>> {
    let Some(one) = view.workloads().get(view.chosen()) else {
        return vec![line("Nothing ran yet: the first window closes within 6 s.")];
    };
    let name = one.workload.as_str();
    let mut lines = vec![line(name).style(bold())];
    if let Some(mode) = mode_of(view, name) {
        lines.push(line(&format!(
            "mode {} ordered, {} in force; seen on {}, in {} of 168 hours of the week",
            mode.mode,
            mode.in_force,
            text::counted(mode.days, "day", "days"),
            mode.hours
        )));
        if !mode.missing.is_empty() {
            lines.push(line(&format!("can't be enforced yet: {}", mode.missing.join(", "))));
        }
    }
    let status = view.answer.as_ref().map(|answer| &answer.status);
    if status.is_some_and(|status| status.drifted.contains(&one.workload)) {
        lines.push(line(&text::drifted(name)));
    }
    let latest = view.findings().iter().find(|found| found.subject.workload == one.workload);
    lines.push(line(&match latest {
        Some(found) => format!("last finding {}: {}", found.uid, words(found)),
        None => "nothing was found in it".to_owned(),
    }));
    lines
}

/// What was done, in words; the reason where no deed is known.
fn words(finding: &Finding) -> String {
    let shares = finding.attribution.iter().filter(|share| &*share.of == NATS);
    let words: Vec<&str> = shares
        .filter_map(|share| CATALOGUE.iter().find(|row| row.name == &*share.feature))
        .map(|row| row.words)
        .collect();
    if words.is_empty() { finding.reason.clone() } else { words.join(", ") }
}

fn severity(severity: Severity) -> (&'static str, Color) {
    match severity {
        Severity::Critical => ("critical", Color::Red),
        Severity::High => ("high", Color::Red),
        Severity::Medium => ("medium", Color::Yellow),
        Severity::Low => ("low", Color::Cyan),
        Severity::Informational => ("info", Color::Cyan),
    }
}

fn findings(view: &View, area: Rect, buffer: &mut Buffer) {
    let widths = vec![
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Fill(2),
        Constraint::Fill(3),
    ];
    let heads = vec![
        cell("time"),
        cell("severity"),
        number("nats".to_owned()),
        cell("workload"),
        cell("what was done"),
    ];
    let rows = view.findings().iter().map(|one| {
        let (grave, colour) = severity(one.severity);
        Row::new(vec![
            cell(text::time(one.time_ns).get(11..).unwrap_or_default()),
            cell(grave).style(marked(view, colour)),
            number(format!("{:.1}", one.surprise)),
            cell(one.subject.workload.as_str()),
            cell(&words(one)),
        ])
    });
    list(view, (heads, widths), rows.collect(), area, buffer);
}

fn finding_details(view: &View) -> Vec<Line<'static>> {
    let Some(one) = view.findings().get(view.chosen()) else {
        let listed = view.answer.as_ref().map_or(0, |answer| answer.status.suppressed);
        return vec![line(&format!(
            "Nobody had to be told of anything; {listed} listed only (hedgerow findings list --all)."
        ))];
    };
    let mut lines = vec![
        line(&format!("{} {}", text::time(one.time_ns), one.subject)).style(bold()),
        line(&format!(
            "{:.1} nats, told from {:.1}; {}; uid {}",
            one.surprise, one.floor, one.state, one.uid
        )),
    ];
    let shares = one.attribution.iter().filter(|share| &*share.of == NATS);
    lines.extend(shares.map(|share| line(&text::part(one, share))));
    if let Some(process) = &one.process {
        let user = process.user.clone().unwrap_or_else(|| process.user_id.to_string());
        lines.push(line(&format!("process {} of {user}: {}", process.pid, process.command_line)));
    }
    lines.push(line(&one.reason));
    lines
}

/// What an entry does, in a word.
fn does(entry: &Entry<'_>) -> &'static str {
    match entry {
        Entry::Held(_) => "waits",
        Entry::Live(entry) => match entry.level {
            Level::Counts => "counts",
            Level::Prevents | Level::PreventsNetwork => "refuses",
            Level::KillsBeforeFirstInstruction | Level::KillsOneCallLate => "kills",
        },
    }
}

/// How long a time is away, in the shortest words.
fn left(view: &View, until_ns: i64) -> String {
    text::seconds(u64::try_from((until_ns - view.now_ns) / 1_000_000_000).unwrap_or(0))
}

fn entries(view: &View, area: Rect, buffer: &mut Buffer) {
    let widths = vec![
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Length(9),
        Constraint::Fill(1),
    ];
    let heads = vec![
        cell("uid"),
        cell("does"),
        number("hits".to_owned()),
        number("cut".to_owned()),
        cell("ends in"),
        cell("whom"),
    ];
    let rows = view.entries().into_iter().map(|one| {
        let (hits, cut, until_ns) = match one {
            Entry::Live(entry) => {
                (entry.hits.to_string(), entry.sockets_destroyed.to_string(), entry.expires_ns)
            }
            Entry::Held(hold) => ("-".to_owned(), "-".to_owned(), hold.until_ns),
        };
        Row::new(vec![
            cell(short(one.uid())),
            cell(does(&one)).style(marked(view, Color::Magenta)),
            number(hits),
            number(cut),
            cell(&left(view, until_ns)),
            cell(&one.whom()),
        ])
    });
    list(view, (heads, widths), rows.collect(), area, buffer);
}

fn entry_details(view: &View) -> Vec<Line<'static>> {
    let entries = view.entries();
    let Some(one) = entries.get(view.chosen()) else {
        return vec![line("Nothing is refused.")];
    };
    match one {
        Entry::Live(entry) => {
            let found = entry.finding_uid.as_deref().unwrap_or("none, an operator said so");
            vec![
                line(&one.whom()).style(bold()),
                line(&format!("{}; mode {}; uid {}", level(entry.level), entry.mode, entry.uid)),
                line(&format!(
                    "{}, {}; made {}, ends {}",
                    text::counted(entry.hits, "hit", "hits"),
                    text::counted(entry.sockets_destroyed, "socket cut", "sockets cut"),
                    text::time(entry.time_ns),
                    text::time(entry.expires_ns)
                )),
                line(&format!("finding: {found}")),
                line(&entry.reason),
            ]
        }
        Entry::Held(hold) => vec![
            line(&one.whom()).style(bold()),
            line(&format!(
                "wide, so it waits: installed at {}, unless l withdraws it; uid {}",
                text::time(hold.until_ns),
                hold.uid
            )),
            line(&hold.reason),
        ],
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Prevents => "what it names is refused",
        Level::PreventsNetwork => "the network is refused to it, files and programs are not",
        Level::KillsBeforeFirstInstruction => "a new image dies before its first instruction",
        Level::KillsOneCallLate => "the process dies after the call that was noticed",
        Level::Counts => "nothing is refused, hits are counted",
    }
}

fn footer(view: &View, columns: usize) -> Vec<Line<'static>> {
    let told = match (&view.over, &view.notice) {
        (Over::Confirm(uid, target), _) => {
            let answers = format!(" ({})? y lifts it, any other key doesn't", short(uid));
            let room = columns.saturating_sub("Lift ".len() + answers.len());
            let question = format!("Lift {}{answers}", cut(target, room));
            fitted(&question, columns).style(marked(view, Color::Yellow))
        }
        (_, Some(notice)) => fitted(notice, columns).style(bold()),
        _ => Line::default(),
    };
    let keys = "1 2 3 tab  up/down choose  Enter more  l lift an entry  ? help  q quit";
    vec![told, Line::raw(keys).style(Style::new().add_modifier(Modifier::REVERSED))]
}

fn help(area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = HELP.iter().map(|text| Line::raw(*text)).collect();
    let over = Rect { y: area.y + 4, height: area.height.saturating_sub(6), ..area };
    Clear.render(over, buffer);
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(over, buffer);
}
