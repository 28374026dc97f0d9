//! Standard output and standard error, written by a thread of their own: whoever reads them may
//! stop reading, or go.

use std::{
    fs,
    io::{self, Write},
    os::{fd::RawFd, unix::fs::FileTypeExt},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    daemon::{room::Room, service, watchdog::Count},
    text::{self, Priority},
};

/// Lines that wait for a reader, and their bytes. Full: what comes is counted, and told once there is room.
pub const LINES_MAX: usize = 4096;
const LINES_BYTES: usize = 16 << 20;
/// A reader that went is noticed within this time, also when nothing is printed.
const LOOK: Duration = Duration::from_secs(1);

enum Said {
    Out(String, Room),
    Note(String, Room),
    Live(String),
    /// The live line goes.
    Bare,
}

/// The way to the terminal; clones share it.
#[derive(Debug, Clone)]
pub struct Terminal {
    lines: Sender<Said>,
    bytes: Arc<AtomicUsize>,
    unprinted: Arc<AtomicU64>,
    count: Arc<Count>,
}

/// What is left to be known of the thread.
#[derive(Debug)]
pub struct Ends {
    /// Nobody reads standard output any more.
    pub closed: Receiver<()>,
    /// Disconnected once all is printed.
    pub printed: Receiver<()>,
}

impl Terminal {
    /// Starts the thread; it ends with the last clone. `live`: with a line that is renewed, on
    /// standard error.
    pub fn start(live: bool) -> anyhow::Result<(Self, Ends)> {
        let (lines, said) = bounded(LINES_MAX);
        let (close, closed) = bounded(1);
        let (end, printed) = bounded(0);
        let unprinted = Arc::new(AtomicU64::new(0));
        let line = live.then(ProgressBar::new_spinner);
        if let Some(line) = &line {
            line.set_style(ProgressStyle::with_template("{spinner} {wide_msg}")?);
        }
        let count = Arc::new(Count::default());
        let printer = Printer {
            line,
            close,
            count: Arc::clone(&count),
            lost: Arc::clone(&unprinted),
            told: 0,
            open: true,
            ends: ends_with_reader(),
        };
        thread::Builder::new().name("terminal".into()).spawn(move || {
            printer.run(&said);
            drop(end);
        })?;
        let terminal = Self { lines, bytes: Arc::default(), unprinted, count };
        Ok((terminal, Ends { closed, printed }))
    }

    /// A line for standard output.
    pub fn print(&self, text: String) {
        let room = self.room(&text);
        self.say(room.map(|room| Said::Out(text, room)));
    }

    /// A line for standard error.
    pub fn note(&self, text: String) {
        let room = self.room(&text);
        self.say(room.map(|room| Said::Note(text, room)));
    }

    /// Renews the live line; one that finds no room is renewed a moment later.
    pub fn live(&self, text: String) {
        let _ = self.send(Said::Live(text));
    }

    /// Takes the live line away.
    pub fn bare(&self) {
        self.say(Some(Said::Bare));
    }

    /// What is printed, for the watchdog.
    pub fn count(&self) -> &Arc<Count> {
        &self.count
    }

    /// Lines that found no room.
    pub fn unprinted(&self) -> u64 {
        self.unprinted.load(Ordering::Relaxed)
    }

    /// Lines that wait.
    pub fn waiting(&self) -> usize {
        self.lines.len()
    }

    fn room(&self, text: &str) -> Option<Room> {
        Room::take(&self.bytes, text.len(), LINES_BYTES)
    }

    /// Nothing: it is too long for what is there.
    fn say(&self, said: Option<Said>) {
        if !said.is_some_and(|said| self.send(said)) {
            self.unprinted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False where there is no room.
    fn send(&self, said: Said) -> bool {
        // Counted first: the thread must not be done before.
        self.count.give();
        let sent = self.lines.try_send(said).is_ok();
        if !sent {
            self.count.finish();
        }
        sent
    }
}

struct Printer {
    line: Option<ProgressBar>,
    close: Sender<()>,
    count: Arc<Count>,
    lost: Arc<AtomicU64>,
    /// Of the lost, those that were told.
    told: u64,
    /// Somebody reads standard output.
    open: bool,
    /// That nobody does any more is told.
    ends: bool,
}

impl Printer {
    fn run(mut self, said: &Receiver<Said>) {
        loop {
            match said.recv_timeout(LOOK) {
                Ok(said) => {
                    self.print(said);
                    self.count.finish();
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tell_lost();
        }
    }

    fn print(&mut self, said: Said) {
        match said {
            Said::Out(text, _room) => self.out(&text),
            Said::Note(text, _room) => self.note(&text),
            Said::Live(text) => {
                if let Some(line) = &self.line {
                    line.set_message(text);
                    line.tick();
                }
            }
            Said::Bare => {
                if let Some(line) = self.line.take() {
                    line.finish_and_clear();
                }
            }
        }
    }

    fn out(&mut self, text: &str) {
        if !self.open {
            return;
        }
        let text = match text::is_journal(libc::STDOUT_FILENO) {
            true => &text::prioritised(text, Priority::Notice),
            false => text,
        };
        match self.suspended(|| writeln!(io::stdout().lock(), "{text}")) {
            // EIO: the terminal hung up.
            Err(why)
                if self.ends && (why.kind() == io::ErrorKind::BrokenPipe || is_hung_up(&why)) =>
            {
                self.shut();
            }
            Err(_) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
            Ok(()) => {}
        }
    }

    /// Who listened to the notices has gone: no reason to stop protecting the host.
    fn note(&self, text: &str) {
        drop(self.suspended(|| writeln!(io::stderr().lock(), "{}", text::noted(text))));
    }

    /// Prints without tearing the live line.
    fn suspended(&self, print: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match &self.line {
            Some(line) => line.suspend(print),
            None => print(),
        }
    }

    /// Whether the reader went while nothing was printed.
    fn look(&mut self) {
        if self.ends && self.open && has_no_reader(libc::STDOUT_FILENO) {
            self.shut();
        }
    }

    fn shut(&mut self) {
        self.open = false;
        // Full: it was said.
        let _ = self.close.try_send(());
    }

    fn tell_lost(&mut self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.told {
            let text = format!(
                "hedgerow: warning: {} lines were not printed: nobody read fast enough, or the disk \
                 is full",
                lost - self.told
            );
            self.told = lost;
            self.note(&text);
        }
    }
}

/// Whether a run ends with who reads its standard output. Not below a service manager, nor where the
/// journal reads: a journal that is restarted, or that others have kept from reading, says nothing of
/// what its operator wants.
fn ends_with_reader() -> bool {
    !service::is_there() && !text::is_journal(libc::STDOUT_FILENO)
}

/// Whether whoever reads there is a person's terminal, or a pipe that somebody put behind the command:
/// closing it is that person's word.
pub fn is_of_a_person(descriptor: RawFd) -> bool {
    let file = fs::metadata(format!("/proc/self/fd/{descriptor}"));
    file.is_ok_and(|file| file.file_type().is_fifo() || file.file_type().is_char_device())
}

fn is_hung_up(why: &io::Error) -> bool {
    why.raw_os_error() == Some(libc::EIO)
}

/// A pipe without a reader, or a terminal that hung up.
fn has_no_reader(descriptor: RawFd) -> bool {
    let mut polled = libc::pollfd { fd: descriptor, events: 0, revents: 0 };
    // SAFETY: one descriptor's record, which is writable.
    let ready = unsafe { libc::poll(&raw mut polled, 1, 0) };
    ready == 1 && polled.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_pipe_without_a_reader_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!has_no_reader(writer.as_raw_fd()));
        drop(reader);
        assert!(has_no_reader(writer.as_raw_fd()));
        let file = tempfile::tempfile().unwrap();
        assert!(!has_no_reader(file.as_raw_fd()));
    }

    #[test]
    fn a_socket_is_no_person() {
        let (_reader, pipe) = io::pipe().unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(is_of_a_person(pipe.as_raw_fd()) && is_of_a_person(null.as_raw_fd()));
        assert!(!is_of_a_person(socket.as_raw_fd()) && !is_of_a_person(-1));
    }

    #[test]
    fn who_finds_no_room_is_counted_and_never_waits() {
        let (lines, said) = bounded(2);
        let (unprinted, count) = (Arc::default(), Arc::default());
        let terminal = Terminal { lines, bytes: Arc::default(), unprinted, count };
        (0..5).for_each(|number| terminal.print(number.to_string()));
        assert_eq!((said.len(), terminal.unprinted()), (2, 3));
        said.try_iter().for_each(drop);
        terminal.print("a".repeat(LINES_BYTES));
        terminal.note("b".into());
        assert_eq!((said.len(), terminal.unprinted()), (1, 4));
        said.try_iter().for_each(drop);
        terminal.note("c".into());
        assert_eq!((said.len(), terminal.unprinted()), (1, 4));
    }
}
