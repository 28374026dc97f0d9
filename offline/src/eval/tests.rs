#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use hedgerow_detect::{Outcome, WindowScore};
use hedgerow_event::{
    Activity, Disposition, Finding, Loss, Maturity, Program, Scale, Severity, Subject, Workload,
};

use chrono_tz::Tz;

use super::*;
use crate::labels::IGNORE;

const SECOND: i64 = 1_000_000_000;
const EPOCH: i64 = 5 * SECOND;

fn subject(program: &str) -> Arc<Subject> {
    Arc::new(Subject::new(Workload::new("web.service"), Program::new(program)))
}

fn window(program: &str, epoch: i64, surprise: f64, uid: Option<&str>) -> Outcome {
    Outcome::Scored(WindowScore {
        subject: subject(program),
        scale: Scale::Seconds5,
        epoch: epoch as u32,
        early: None,
        window_start_ns: epoch * EPOCH,
        window_end_ns: (epoch + 1) * EPOCH,
        score: 0.5,
        row: [0.0; hedgerow_detect::DEVIATIONS],
        surprise: Some(surprise),
        floor: 8.0,
        finding_uid: uid.map(str::to_owned),
    })
}

fn finding(
    uid: &str,
    program: &str,
    epoch: i64,
    class: Class,
    disposition: Disposition,
) -> Outcome {
    Outcome::Finding(
        Box::new(Finding {
            uid: uid.to_owned(),
            activity: Activity::Create,
            sequence: 0,
            first_alert: None,
            host_id: "a".to_owned(),
            boot_id: String::new(),
            subject: subject(program),
            scale: Scale::Seconds5,
            early: false,
            window_start_ns: epoch * EPOCH,
            window_end_ns: (epoch + 1) * EPOCH,
            time_ns: (epoch + 1) * EPOCH,
            state: Maturity::Provisional,
            severity: Severity::High,
            disposition,
            score: 0.5,
            class,
            surprise: 20.0,
            floor: 8.0,
            p_value: None,
            families: vec![Family::Novelty],
            objects: Vec::new(),
            attribution: Vec::new(),
            process: None,
            loss: Loss::default(),
            model_digest: None,
            model_id: String::new(),
            model_seed: None,
            claimed_names: Vec::new(),
            vulnerabilities: Vec::new(),
            pod: None,
            peer_pods: Vec::new(),
            reason: String::new(),
        }),
        Vec::new(),
    )
}

fn label(start: i64, end: i64, program: &str, class: &str) -> Label {
    Label {
        start_ns: start * EPOCH,
        end_ns: end * EPOCH,
        host: "a".to_owned(),
        workload: None,
        program: Some(glob::Pattern::new(program).unwrap()),
        tree: None,
        class: class.to_owned(),
    }
}

/// A day of one benign program, with a shell that alerts, one that is only listed, one that is
/// missed, one that is to be ignored and a false alert.
fn collected() -> (Collected, Vec<Label>) {
    let mut collected = Collected::default();
    collected.host("a", &[]);
    for epoch in 0..17_280 {
        collected.add(&Outcome::Windows(Vec::new()));
        collected.add(&window("/bin/web", epoch, 0.1, None));
    }
    collected.add(&finding("alert", "/bin/sh", 103, Class::Intrinsic, Disposition::Alert));
    collected.add(&window("/bin/sh", 103, 1.0, Some("alert")));
    collected.add(&finding("listed", "/bin/sh", 5000, Class::Novelty, Disposition::Suppressed));
    collected.add(&window("/bin/sh", 5000, 1.0, Some("listed")));
    collected.add(&window("/bin/sh", 9000, 0.0, None));
    collected.add(&window("/bin/odd", 12_000, 9.0, None));
    collected.add(&finding("false", "/bin/web", 15_000, Class::Measure, Disposition::Alert));
    let labels = vec![
        label(100, 110, "/bin/sh", "shell"),
        label(5000, 5001, "/bin/sh", "shell"),
        label(9000, 9001, "/bin/sh", "quiet"),
        label(12_000, 12_001, "/bin/odd", IGNORE),
        label(12_000, 12_001, "/bin/absent", IGNORE),
        label(16_000, 16_001, "/bin/absent", "shell"),
    ];
    (collected, labels)
}

#[test]
fn incidents_alerts_and_windows_are_counted_against_the_labels() {
    let (collected, labels) = collected();
    let told = evaluate("m", 1.0, &collected, &labels);
    assert_eq!((told.windows, told.positive_windows, told.ignored_windows), (17_283, 3, 1));
    assert!((told.days - 1.0).abs() < 1e-9);
    assert_eq!(told.ignored_unmatched, 1);
    assert_eq!(told.recall.value, Some(1.0 / 3.0));
    assert_eq!(told.recall_by_class["shell"], (1, 2));
    assert_eq!(told.false_alerts, ["false"]);
    assert_eq!(told.false_alerts_a_day.value, Some(1.0));
    assert_eq!(told.seconds_to_detect_median, Some(20.0));
    let of = |at: usize| (&told.incidents[at].finding_uid, told.incidents[at].listed);
    assert_eq!(of(0), (&Some("alert".to_owned()), 0));
    assert_eq!(of(1), (&None, 1));
    assert_eq!(told.incidents[3].windows, 0, "unmatched");
    // Two positives rank above all, the third below all.
    let auroc = told.auroc.value.unwrap();
    assert!((auroc - 2.0 / 3.0).abs() < 1e-6, "{auroc}");
    let recall = told.recall;
    assert!(recall.low.unwrap() <= 1.0 / 3.0 && recall.high.unwrap() >= 1.0 / 3.0);
    assert!(recall.low.unwrap() < recall.high.unwrap());
}

#[test]
fn what_a_class_brought_falls_away_without_it() {
    let (collected, labels) = collected();
    let told = evaluate("m", 1.0, &collected, &labels);
    let without = |name: &str| told.ablations.iter().find(|a| a.without == name).unwrap();
    assert_eq!(without("class intrinsic").recall, Some(0.0));
    assert_eq!(without("class measure").recall, Some(1.0 / 3.0));
    assert_eq!(without("class measure").alerts_a_day, 1.0);
    assert_eq!(without("family novelty").recall, Some(0.0));
}

#[test]
fn it_is_told_as_text_table_and_page() {
    let (collected, labels) = collected();
    let told = evaluate("m", 1.0, &collected, &labels);
    let text = told.text(Tz::UTC);
    assert!(text.contains("unmatched") && text.contains("missed") && text.contains("listed only"));
    let csv = told.csv();
    assert!(csv.starts_with("figure,value,low,high\n"), "{csv}");
    assert!(csv.contains("\nfalse alerts a day,1,"), "{csv}");
    let html = told.html(Tz::UTC);
    assert_eq!(html.matches("<polyline").count(), 2);
    assert!(html.contains("Times are in UTC"));
}

#[test]
fn captures_of_different_budgets_are_refused_until_one_is_named() {
    let run = |budget: &str| Run {
        host: budget.to_owned(),
        boot: String::new(),
        records: Vec::new(),
        early: Vec::new(),
        policy: Vec::new(),
        metadata: BTreeMap::from([(BUDGET.to_owned(), budget.to_owned())]),
        damaged: false,
    };
    let why = |runs, budget_per_day| {
        let how = Score { model: "absent".into(), budget_per_day, ..Score::default() };
        super::run(runs, Span::ALL, &how, &[], &mut |_| {}).unwrap_err().to_string()
    };
    let told = why(vec![run("1"), run("24")], None);
    assert!(
        told.contains("budget of 1 ") && told.contains("one of 24: say by `--budget`"),
        "{told}"
    );
    assert!(why(vec![run("1"), run("24")], Some(1.0)).contains("absent"));
    assert!(why(vec![run("1"), run("1")], None).contains("absent"));
}
