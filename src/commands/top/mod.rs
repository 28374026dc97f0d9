//! `hedgerow top`: workloads, findings and entries on a terminal, renewed every second.
//!
//! Three threads besides the one that draws: one asks the daemon, one reads keys (what reads them
//! never returns once the terminal is gone), one takes signals. A daemon that hangs holds up the
//! first of them, never the screen.

mod asked;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{IsTerminal, stdin, stdout},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded, select, tick};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent, KeyEventKind},
};

use self::{
    asked::Asked,
    view::{Act, View},
};
use crate::{
    control::{GetStatus, call, socket},
    exit::Failure,
    host,
};

/// The screen is drawn anew this often: what is told of time goes on without the daemon.
const DRAW: Duration = Duration::from_secs(1);
/// Keys that wait; full: the terminal keeps the rest.
const KEYS_MAX: usize = 16;

pub fn run(state: &Path, json: bool) -> anyhow::Result<()> {
    if json || !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(Failure::Usage(
            "top draws on a terminal; for machines there is `hedgerow status --json`".into(),
        )
        .into());
    }
    // Without a daemon there is nothing to draw, and what is wrong is told where it stays.
    call(&socket(state), &GetStatus {})?;
    let signals = host::signals()?;
    let asked = Asked::start(state)?;
    // Restores the terminal where a thread panics, too.
    let mut terminal = ratatui::try_init().context("can't draw on this terminal")?;
    let ended = draw(&mut terminal, &asked, &signals);
    // A terminal that hung up takes nothing back.
    drop(ratatui::try_restore());
    ended
}

/// Until a key or a signal ends it; or the terminal, by refusing what is drawn.
fn draw(
    terminal: &mut DefaultTerminal,
    asked: &Asked,
    signals: &Receiver<i32>,
) -> anyhow::Result<()> {
    let keys = keys()?;
    let ticks = tick(DRAW);
    let mut view = View::new(std::env::var_os("NO_COLOR").is_none());
    loop {
        view.now_ns = hedgerow_responder::now().wall_ns;
        terminal.draw(|frame| {
            let area = frame.area();
            screen::render(&view, area, frame.buffer_mut());
        })?;
        select! {
            recv(keys) -> key => match key? {
                None => {}
                Some(key) => match view.key(key) {
                    Act::Stay => {}
                    Act::Quit => return Ok(()),
                    Act::Lift(uid) => asked.lift(uid)?,
                },
            },
            recv(asked.news) -> news => view.take(news.context("nobody asks the daemon any more")?),
            recv(signals) -> _ => return Ok(()),
            recv(ticks) -> _ => {}
        }
    }
}

/// Keys as they are pressed; `None` where the terminal changed its size.
fn keys() -> anyhow::Result<Receiver<Option<KeyEvent>>> {
    let (sender, keys) = bounded(KEYS_MAX);
    thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            let sent = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => sender.send(Some(key)),
                Event::Resize(..) => sender.send(None),
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    })?;
    Ok(keys)
}
