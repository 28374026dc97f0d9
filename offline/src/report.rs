//! What training learned, as a page for a person and as JSON.

use std::path::Path;

use chrono_tz::Tz;
use hedgerow_detect::{
    Engine, Overview, Phase,
    power::{Power, WorkloadPower},
    surprise::floors::Promise,
};
use hedgerow_event::{Maturity, Scale};
use hedgerow_features::{COLUMNS, Window};
use hedgerow_model::drift::{PSI_MIN_ROWS, PsiReference};
use ndarray::Array2;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;

use crate::{
    Error, Result, files,
    page::{Page, number},
    time,
    train::Trained,
};

/// Windows that are kept of the beginning and of the end, each a uniform sample.
const SAMPLE_MAX: usize = 4000;
/// Bars of a distribution.
const BINS: usize = 40;
/// Columns whose drift is shown.
const DRIFTS_MAX: usize = 20;
const DAY_NS: i64 = 86_400_000_000_000;

/// A uniform sample of rows.
#[derive(Debug)]
struct Sample {
    rows: Vec<Box<[f32]>>,
    seen: usize,
}

/// What a report needs of the windows, gathered while a model is trained.
#[derive(Debug)]
pub struct Gathered {
    rng: SmallRng,
    span_ns: Option<(i64, i64)>,
    /// Wall time until which windows are of the beginning, and from which they are of the end.
    edges_ns: (i64, i64),
    first: Sample,
    last: Sample,
    scores: Vec<f64>,
    measures: Vec<f64>,
    windows: u64,
}

/// How far a column's distribution moved from the beginning to the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    pub column: String,
    /// Population stability index.
    pub psi: f64,
}

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub model: String,
    pub hosts: Vec<String>,
    pub runs: usize,
    pub windows: u64,
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
    pub seconds_by_part: std::collections::BTreeMap<String, u64>,
    pub promise: Promise,
    pub overview: Overview,
    /// Of held-back windows: (from, to, windows).
    pub scores: Vec<(f64, f64, f64)>,
    pub measures: Vec<(f64, f64, f64)>,
    /// `None` where too few windows are of the beginning or of the end.
    pub drift: Option<Vec<Moved>>,
    /// What would be missed. Who knows it knows how to stay unseen.
    pub power: Option<Power>,
    pub damaged: Vec<String>,
    pub gaps: usize,
}

impl Default for Gathered {
    fn default() -> Self {
        let none = || Sample { rows: Vec::new(), seen: 0 };
        Self {
            rng: SmallRng::seed_from_u64(1),
            span_ns: None,
            edges_ns: (i64::MIN, i64::MAX),
            first: none(),
            last: none(),
            scores: Vec::new(),
            measures: Vec::new(),
            windows: 0,
        }
    }
}

impl Gathered {
    /// Learning begins, of captures from and to these wall times: their first and last day are
    /// compared, or their first and last third where they are shorter than that.
    pub(crate) fn begin(&mut self, first_ns: i64, last_ns: i64) {
        let part = DAY_NS.min((last_ns - first_ns) / 3);
        self.edges_ns = (first_ns + part, last_ns - part);
    }

    /// Takes what an engine that learns tells.
    pub(crate) fn add(&mut self, engine: &Engine, windows: &[Window]) {
        for window in
            windows.iter().filter(|w| w.time.scale == Scale::Seconds5 && w.early.is_none())
        {
            let end =
                window.time.realtime_offset_ns.saturating_add_unsigned(window.time.end_boot_ns);
            let (from, to) = self.span_ns.unwrap_or((end, end));
            self.span_ns = Some((from.min(end), to.max(end)));
            self.windows += 1;
            if window.subject.is_host() {
                continue;
            }
            if end <= self.edges_ns.0 {
                self.first.add(window, &mut self.rng);
            } else if end > self.edges_ns.1 {
                self.last.add(window, &mut self.rng);
            }
        }
        if engine.phase() == Phase::Calibrate {
            for (score, measure) in engine.measured(windows) {
                self.scores.push(score);
                self.measures.push(measure);
            }
        }
    }

    fn drift(&self) -> Option<Vec<Moved>> {
        let (first, last) = (self.first.matrix(), self.last.matrix());
        if (first.nrows().min(last.nrows()) as u64) < PSI_MIN_ROWS {
            return None;
        }
        let reference = PsiReference::fit(first.view()).ok()?;
        let mut monitor = reference.monitor();
        monitor.add(last.view()).ok()?;
        let mut moved: Vec<Moved> = monitor
            .drift()
            .ok()?
            .into_iter()
            .map(|drift| Moved { column: COLUMNS[drift.column].name.to_string(), psi: drift.psi })
            .collect();
        moved.sort_by(|a, b| b.psi.total_cmp(&a.psi));
        Some(moved)
    }
}

impl Sample {
    fn add(&mut self, window: &Window, rng: &mut SmallRng) {
        self.seen += 1;
        let row = || window.values.iter().map(|value| *value as f32).collect();
        if self.rows.len() < SAMPLE_MAX {
            self.rows.push(row());
        } else if let Some(place) = self.rows.get_mut(rng.gen_range(0..self.seen)) {
            *place = row();
        }
    }

    fn matrix(&self) -> Array2<f32> {
        let mut matrix = Array2::zeros((self.rows.len(), COLUMNS.len()));
        for (mut row, values) in matrix.outer_iter_mut().zip(&self.rows) {
            row.iter_mut().zip(values.iter()).for_each(|(place, value)| *place = *value);
        }
        matrix
    }
}

fn histogram(values: &[f64]) -> Vec<(f64, f64, f64)> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return Vec::new();
    }
    let width = ((high - low) / BINS as f64).max(1e-9);
    let mut counts = vec![0.0; BINS];
    for value in finite() {
        counts[(((value - low) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let edge = |at: usize| low + at as f64 * width;
    counts.into_iter().enumerate().map(|(at, count)| (edge(at), edge(at + 1), count)).collect()
}

impl Report {
    pub fn of(trained: &Trained, gathered: &Gathered) -> Self {
        let engine = &trained.engine;
        Self {
            model: engine.model_id().to_owned(),
            hosts: trained.hosts.iter().cloned().collect(),
            runs: trained.runs,
            windows: gathered.windows,
            first_ns: gathered.span_ns.map(|(first, _)| first),
            last_ns: gathered.span_ns.map(|(_, last)| last),
            seconds_by_part: trained.model.summary.part_s.clone(),
            promise: engine.promise(),
            overview: engine.overview(),
            scores: histogram(&gathered.scores),
            measures: histogram(&gathered.measures),
            drift: gathered.drift(),
            power: engine.power(None, None),
            damaged: trained
                .damaged
                .iter()
                .map(|file| format!("{}: {}", file.path.display(), file.reason))
                .collect(),
            gaps: trained.gaps.len(),
        }
    }

    /// Whether a page, and beside it the same as JSON, can be written to a path.
    ///
    /// # Errors
    /// They would be one file, or there is no directory for them.
    pub fn fits(path: &Path) -> Result<()> {
        match path.extension().is_some_and(|end| end == "json") {
            true => Err(Error::Usage(
                "--report: the page can't end in .json, as what is beside it".into(),
            )),
            false => files::has_room(path),
        }
    }

    /// Writes the page, and beside it the same as JSON.
    ///
    /// # Errors
    /// They can't be written.
    pub fn save(&self, path: &Path, zone: Tz) -> Result<()> {
        files::write(path, &self.html(zone))?;
        files::write(&path.with_extension("json"), &serde_json::to_string(self)?)
    }

    /// A self-contained page; times are in `zone`, which it names.
    pub fn html(&self, zone: Tz) -> String {
        let mut page = Page::default();
        let at = |time_ns: Option<i64>| {
            time_ns.map_or_else(|| "not available".to_owned(), |ns| time::show(ns, zone))
        };
        page.note(&format!("Model {}. Times are in {zone}.", self.model));
        page.text(&format!(
            "Learned from {} windows of 5 s of {} in {} runs, {} to {}.",
            self.windows,
            self.hosts.join(", "),
            self.runs,
            at(self.first_ns),
            at(self.last_ns)
        ));
        if !self.damaged.is_empty() || self.gaps > 0 {
            let damaged = self.damaged.join("; ");
            page.text(&format!("Holes in the captures: {} gaps; {damaged}", self.gaps));
        }
        self.promised(&mut page);
        self.looked_at(&mut page);
        self.workloads(&mut page);
        page.heading("Scores");
        page.histogram(
            "The forest's scores of held-back windows",
            ("score", "windows"),
            &self.scores,
        );
        page.histogram(
            "Their measures: log-odds of the score and distance to the nearest neighbours",
            ("measure", "windows"),
            &self.measures,
        );
        self.deeds(&mut page);
        self.moved(&mut page);
        self.missed(&mut page);
        page.html("Training report")
    }

    fn promised(&self, page: &mut Page) {
        page.heading("Alerts that are expected");
        page.text(&format!(
            "The budget asks for {} false alerts a day; {} are expected, by {} held-back hours.",
            number(self.promise.asked_per_day),
            number(self.promise.expected_per_day),
            number(self.promise.hours_held_back)
        ));
        let rows: Vec<Vec<String>> = self
            .promise
            .classes
            .iter()
            .map(|class| {
                let rests = if class.supported { "held-back hours" } else { "rates, extrapolated" };
                vec![
                    class.class.to_string(),
                    class.floor.map_or_else(|| "not solved".to_owned(), number),
                    number(class.expected_per_day),
                    rests.to_owned(),
                ]
            })
            .collect();
        page.table(&["class", "#floor (nats)", "#expected a day", "rests on"], &rows);
    }

    /// What is about to be trusted that somebody should look at.
    fn looked_at(&self, page: &mut Page) {
        page.heading("To be looked at");
        let overview = &self.overview;
        if overview.distrusted.is_empty() {
            page.text("Nothing that was seen is distrusted.");
        } else {
            page.text("Seen while learning, and not trusted until somebody accepts it:");
            let rows: Vec<Vec<String>> =
                overview.distrusted.iter().map(|object| vec![object.clone()]).collect();
            page.table(&["what"], &rows);
        }
        if overview.distrusted_more > 0 {
            page.note(&format!("{} more found no room.", overview.distrusted_more));
        }
        let done: Vec<Vec<String>> = overview
            .deeds
            .iter()
            .filter(|deed| deed.class == "intrinsic" && deed.minutes > 0.0)
            .map(|deed| {
                vec![deed.words.to_owned(), number(deed.minutes), deed.workloads.to_string()]
            })
            .collect();
        if !done.is_empty() {
            page.text(
                "Grave by itself, and done while learning; who did it is no longer surprising:",
            );
            page.table(&["deed", "#minutes", "#workloads"], &done);
        }
    }

    fn workloads(&self, page: &mut Page) {
        page.heading("Workloads");
        let rows: Vec<Vec<String>> = self
            .overview
            .workloads
            .iter()
            .map(|workload| {
                let seen: Vec<String> = workload
                    .seen
                    .iter()
                    .map(|(kind, (count, _))| format!("{count} {kind}"))
                    .collect();
                let share = workload.new_share.map(|share| format!("{} %", number(100.0 * share)));
                vec![
                    workload.workload.clone(),
                    workload.state.to_string(),
                    workload.programs.len().to_string(),
                    seen.join(", "),
                    share.unwrap_or_else(|| "too early to tell".to_owned()),
                ]
            })
            .collect();
        let head = ["workload", "state", "#profiles", "first seen", "#of it new in the next unit"];
        page.table(&head, &rows);
        let mut programs: Vec<Vec<String>> = Vec::new();
        for workload in &self.overview.workloads {
            programs.extend(workload.programs.iter().map(|program| {
                let new = program.new_six_grams_per_window;
                vec![
                    workload.workload.clone(),
                    program.program.clone(),
                    program.state.to_string(),
                    program.windows.to_string(),
                    program.six_grams.to_string(),
                    new.map_or_else(|| "too early to tell".to_owned(), number),
                ]
            }));
        }
        page.heading("Profiles of programs");
        let immature = |row: &&Vec<String>| row[2] != Maturity::Mature.to_string();
        page.text(&format!(
            "{} of {} are not mature yet.",
            programs.iter().filter(immature).count(),
            programs.len()
        ));
        let head = [
            "workload",
            "program",
            "state",
            "#windows",
            "#6-grams",
            "#new 6-grams in the next window",
        ];
        page.table(&head, &programs);
    }

    fn deeds(&self, page: &mut Page) {
        page.heading("Rates of deeds");
        let mut deeds: Vec<_> = self.overview.deeds.iter().collect();
        deeds.sort_by(|a, b| b.minutes.total_cmp(&a.minutes));
        let rows: Vec<Vec<String>> = deeds
            .into_iter()
            .map(|deed| {
                vec![
                    deed.words.to_owned(),
                    deed.class.to_owned(),
                    number(deed.minutes),
                    deed.workloads.to_string(),
                    number(deed.surprise),
                ]
            })
            .collect();
        let head = ["deed", "class", "#minutes", "#workloads", "#nats for a workload never seen"];
        page.table(&head, &rows);
    }

    fn moved(&self, page: &mut Page) {
        page.heading("Drift from the beginning to the end");
        let Some(drift) = &self.drift else {
            page.text(&format!(
                "Too few windows: {PSI_MIN_ROWS} are needed of the first day, or third, and of the \
                 last."
            ));
            return;
        };
        page.text(
            "Population stability index of each column between the first and the last day, or third. \
             From .1 on a column is worth a look, from .25 on what was learned is no longer what is.",
        );
        let rows: Vec<Vec<String>> = drift
            .iter()
            .take(DRIFTS_MAX)
            .map(|moved| vec![moved.column.clone(), number(moved.psi)])
            .collect();
        page.table(&["column", "#index"], &rows);
    }

    /// What nobody would be told of.
    fn missed(&self, page: &mut Page) {
        page.heading("What it would miss");
        let Some(power) = &self.power else {
            page.text("Not available while it learns.");
            return;
        };
        page.text(
            "Kinds of deed that nobody would be told of, were they done now, by the first of the \
             programs that were tried. Keep this to yourself: it says how to stay unseen.",
        );
        let rows: Vec<Vec<String>> = power.workloads.iter().flat_map(missed_of).collect();
        page.table(&["workload", "deed", "#missed of tried", "program", "why"], &rows);
    }
}

fn missed_of(workload: &WorkloadPower) -> Vec<Vec<String>> {
    let missed = workload.deeds.iter().filter(|deed| deed.missed > 0);
    missed
        .map(|deed| {
            let first = deed.misses.first();
            vec![
                workload.workload.to_string(),
                deed.deed.row().words.to_owned(),
                format!("{} of {}", deed.missed, deed.tried),
                first.map(|miss| miss.program.to_string()).unwrap_or_default(),
                first.map(|miss| miss.why.words().to_owned()).unwrap_or_default(),
            ]
        })
        .collect()
}
