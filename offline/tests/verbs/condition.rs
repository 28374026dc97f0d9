//! `--where`.

use hedgerow_event::{Program, Subject, Workload};
use hedgerow_offline::{
    condition::Condition,
    player::Only,
    source::{Selection, Source},
    time::Span,
    train::{self, Train},
};
use proptest::prelude::*;

use crate::life::Life;

fn takes(condition: &str, host: &str, workload: &str, program: &str) -> bool {
    let subject = Subject::new(Workload::new(workload), Program::new(program));
    condition.parse::<Condition>().unwrap().takes(host, &subject)
}

#[test]
fn conditions_are_what_sql_says() {
    for (condition, holds) in [
        ("workload = 'web.service'", true),
        ("'web.service' = WORKLOAD", true),
        ("workload <> 'web.service'", false),
        ("workload != 'db.service' and host = 'a'", true),
        ("host = 'b' or program like '/usr/bin/%'", true),
        ("not (host = 'b' or program like '/usr/bin/%')", false),
        ("host = 'b' and host = 'c' or host = 'a'", true),
        ("program in ('/bin/x', '/usr/bin/nginx')", true),
        ("program not in ('/bin/x')", true),
        ("program not like '%nginx'", false),
        ("program ilike '%NGINX'", true),
        ("program like '%NGINX'", false),
        ("program like '/usr/bin/ngin_'", true),
        ("program like '/usr/bin/ngin'", false),
        ("program like '%b!_n%' escape '!'", false),
        ("workload between 'web' and 'wec'", true),
        ("workload not between 'web' and 'wec'", false),
        ("host < 'b' and host <= 'a' and host >= 'a' and not host > 'a'", true),
        ("host = 'it''s'", false),
        ("true", true),
    ] {
        assert_eq!(takes(condition, "a", "web.service", "/usr/bin/nginx"), holds, "{condition}");
    }
}

#[test]
fn a_host_is_left_out_only_where_nothing_of_it_can_be_asked_for() {
    let may = |condition: &str| condition.parse::<Condition>().unwrap().may_take("a");
    assert!(may("host = 'a'") && !may("host = 'b'"));
    assert!(!may("host = 'b' and workload = 'w'") && may("host = 'b' or workload = 'w'"));
    assert!(may("not (host = 'b' and workload = 'w')") && !may("not (host = 'a')"));
}

#[test]
fn what_is_wrong_is_told_with_where_it_stands_and_what_there_is() {
    for (condition, place, told) in [
        ("hots = 'a'", "Line: 1, Column: 1", "no column `hots`"),
        ("host = \"a\"", "Line: 1, Column: 8", "single quotes"),
        ("host = 'a' and\n epoch > 3", "Line: 2, Column: 2", "no column `epoch`"),
        ("host = 'a' and", "", "host, workload and program"),
        ("host = 'a", "Line: 1, Column: 8", "Unterminated"),
        ("host = 'a' workload", "Line: 1, Column: 12", "ends before `workload`"),
        ("host = 'a'; drop table x", "Line: 1, Column: 11", "ends before `;`"),
        ("length(program) > 3", "Line: 1, Column: 1", "can't be asked"),
        ("program = 3", "Line: 1, Column: 11", "can't be asked"),
        ("host is null", "Line: 1, Column: 1", "can't be asked"),
        ("host", "Line: 1, Column: 1", "can't be asked"),
        ("program like host", "", "can't be asked"),
        ("host in (select host)", "Line: 1", "can't be asked"),
        ("", "", "Expected"),
    ] {
        let error = condition.parse::<Condition>().unwrap_err();
        assert!(error.contains(place) && error.contains(told), "{condition}: {error}");
    }
    let deep = format!("{}host = 'a'{}", "(".repeat(1000), ")".repeat(1000));
    assert!(deep.parse::<Condition>().unwrap_err().contains("too deep"));
    let long = vec!["host = 'a'"; 250].join(" or ");
    assert!(long.parse::<Condition>().unwrap().may_take("a"));
    assert!("x".repeat(70_000).parse::<Condition>().unwrap_err().contains("bytes"));
}

#[test]
fn a_condition_leaves_out_hosts_and_whole_programs() {
    let home = tempfile::tempdir().unwrap();
    Life::default().write(&home.path().join("one"));
    Life { host: "b", chance: 2, ..Life::default() }.write(&home.path().join("two"));
    Life { host: "b", chance: 3, first: 500, ..Life::default() }.write(&home.path().join("two"));
    let condition: Condition = "host = 'b' and not workload = 'web.service'".parse().unwrap();
    let selection = Selection { condition: Some(condition.clone()), ..Selection::default() };
    let source = Source::open(&[home.path().to_owned()], &selection).unwrap();
    assert_eq!(source.runs.len(), 2, "host a is not even read");
    let only = Only { condition: Some(condition), ..Only::default() };
    let asked =
        train::train(source, Span::ALL, &Train { only, ..Train::default() }, None, &mut |_| {})
            .unwrap();
    let programs: Vec<_> = asked.model.profile.programs.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(programs, ["/usr/bin/db"]);
    // The same as by patterns.
    let hosts = vec![glob::Pattern::new("b").unwrap()];
    let selection = Selection { hosts, ..Selection::default() };
    let source = Source::open(&[home.path().to_owned()], &selection).unwrap();
    let only = Only { workloads: vec![glob::Pattern::new("db*").unwrap()], ..Only::default() };
    let patterns =
        train::train(source, Span::ALL, &Train { only, ..Train::default() }, None, &mut |_| {})
            .unwrap();
    assert!(asked.model == patterns.model);
}

proptest! {
    #[test]
    fn whatever_is_written_is_a_condition_or_an_error(text in "\\PC{0,60}") {
        drop(text.parse::<Condition>());
    }

    #[test]
    fn like_is_what_a_glob_is(pattern in "[ab%_]{0,8}", text in "[ab]{0,8}") {
        let glob = pattern.replace('%', "*").replace('_', "?");
        let expected = glob::Pattern::new(&glob).is_ok_and(|glob| glob.matches(&text));
        // The glob crate refuses three stars in a row.
        prop_assume!(!pattern.contains("%%"));
        let condition = format!("program like '{pattern}'");
        prop_assert_eq!(takes(&condition, "a", "w", &text), expected);
    }
}
