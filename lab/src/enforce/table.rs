//! What the lives came to, for a terminal and as `docs/enforce-truth.md`.

use std::fmt::Write;

use hedgerow_event::Mode;

use super::{Life, Planted, Tried};

const HEAD: &str = "# What refusing does

Written by `make enforce-truth` (`MINUTES`, `ROUNDS`), which runs on one machine for as long as is said
below; nothing here is edited by hand. PostgreSQL, Redis, nginx with PHP, a small web service, a cron job, a backup
and `apt-get` are learned for a third of the time. In the rest each is restarted, reloaded and deployed to,
packages are installed, administrators work, and then each attack of the lab that needs the network is
made. A harmless client is planted that looks like an intruder: a tool that nobody has seen, in a place
that anybody can write to, calls a partner that nobody has called, and tries again five times a second.

The real gate asks for a mature profile and for each hour of a week. Its round learns from a week that is made of
minutes: `hedgerow run --capture` records them while it learns, five at most, for a part of which clients and
backups stand still; each of 168 hours has nine minutes of that by turns, half a minute of them busy, as recorded
but for their times; `hedgerow train` makes the model of it, and the workloads' days and hours are counted over
it as a daemon counts them. Nothing is known of administrators' work, attacks and the planted client. Minutes over
and over bring less that is new than a real week: the round shows what the gate does once it is open, not
how soon it opens.

*Wrong* is an automatic entry that refuses somebody else than an attacker or the planted client. An attack is
*cut* where an entry refuses and nothing arrives once it stands; *counted* where the entry may only count,
since the gate is closed. What only comes from outside (a flood, a scan) has to lead to
*no entry*: nobody on the host does anything that could be refused, the sources of packets can be forged, and whoever
can have an address refused by naming it locks out whom he likes. `next-address` is refused one peer, and calls
another: told is what the second gets. Entries are an attack's where they are in this lab, against no
process that is older, and of no case that led to one before. Hits alone keep an entry for at most 3,600 s from its
first second.
";

/// For a terminal.
pub fn text(lives: &[Life]) -> String {
    let mut text = markdown(lives);
    for life in lives {
        for (kind, list) in [("wrong", &life.wrong), ("counted", &life.counted)] {
            for entry in list {
                let _ = writeln!(text, "{} {kind}: {entry}", life.gate.name());
            }
        }
    }
    text
}

/// The whole document.
pub fn document(lives: &[Life]) -> String {
    format!("{HEAD}\n{}", markdown(lives))
}

fn markdown(lives: &[Life]) -> String {
    let mut text = String::from(
        "| life | minutes | may enforce | works | wrong | only counted | attacks cut | planted client |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for life in lives {
        let inside = || life.attacks.iter().filter(|tried| !tried.from_outside);
        let cut = inside().filter(|tried| tried.is_cut()).count();
        let _ = writeln!(
            text,
            "| {} | {:.0} | {} | {} | {} | {} | {cut} of {} | {} |",
            life.gate.name(),
            life.minutes,
            enforcing(life),
            life.works,
            life.wrong.len(),
            life.counted.len(),
            inside().count(),
            planted(&life.planted)
        );
    }
    let _ = write!(text, "\n| attack |");
    for life in lives {
        let _ = write!(text, " {} |", life.gate.name());
    }
    let _ = write!(text, "\n|---|{}", "---|".repeat(lives.len()));
    for (at, first) in lives.iter().take(1).flat_map(|life| life.attacks.iter().enumerate()) {
        let _ = write!(text, "\n| {} |", first.attack);
        for life in lives {
            let _ = write!(text, " {} |", life.attacks.get(at).map(tried).unwrap_or_default());
        }
    }
    text.push('\n');
    text
}

fn enforcing(life: &Life) -> String {
    let workloads = format!("{} of {} workloads", life.enforcing, life.ordered);
    match life.week {
        Some(week) => format!("{workloads}; {week}"),
        None => workloads,
    }
}

fn tried(tried: &Tried) -> String {
    if !tried.made {
        return "not made: nobody connected".to_owned();
    }
    let Some(mode) = tried.mode else {
        return if tried.from_outside { "from outside: no entry" } else { "no entry" }.to_owned();
    };
    let word = match mode {
        Mode::Enforce if tried.is_cut() => "cut",
        Mode::Enforce => "refused, not cut",
        _ => "counted",
    };
    let after = if mode == Mode::Enforce { tried.after } else { tried.before + tried.after };
    let first = match (tried.comes_back, tried.misses_its_next_peer()) {
        (true, true) => "not at its first peer; ",
        (true, false) => "its first peer, then ",
        (false, _) => "",
    };
    format!(
        "{first}{word}: {:.0} ms, {} B before, {after} B after",
        tried.entry_ms.unwrap_or_default(),
        if mode == Mode::Enforce { tried.before } else { 0 }
    )
}

fn planted(planted: &Planted) -> String {
    let Some(expires_s) = planted.expires_s else { return "never refused".to_owned() };
    let freed = planted.freed_ms.map_or("never freed".to_owned(), |ms| format!("{ms:.0} ms"));
    format!(
        "{}denied, {} tries, over after {expires_s:.0} s at the latest; `remove --wrong`: {freed}{}",
        if planted.denied { "" } else { "not " },
        planted.hits,
        if planted.denied_again { ", denied again" } else { "" }
    )
}
