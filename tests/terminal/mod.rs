//! A real terminal of 80x50, kept by tmux, with a shell in it.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What a loaded machine may take until something is drawn.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Dropping it ends the shell and what runs in it.
pub struct Terminal {
    directory: TempDir,
}

impl Terminal {
    pub fn start() -> Self {
        let terminal = Self { directory: tempfile::tempdir().unwrap() };
        let shell = ["new-session", "-d", "-x", "80", "-y", "50", "env", "PS1=$ ", "/bin/sh"];
        terminal.tmux(&shell);
        terminal
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.directory.path().join("socket")).args(["-f", "/dev/null"]);
        command.args(arguments).output().expect("tmux is missing: scripts/setup test")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As somebody who drags its window.
    pub fn has_rows(&self, rows: u16) {
        self.tmux(&["resize-window", "-x", "80", "-y", &rows.to_string()]);
    }

    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    pub fn types(&self, text: &str) {
        for part in text.split_inclusive('\n') {
            let plain = part.trim_end_matches('\n');
            if !plain.is_empty() {
                self.tmux(&["send-keys", "-l", plain]);
            }
            if plain.len() < part.len() {
                self.tmux(&["send-keys", "Enter"]);
            }
        }
    }

    /// Waits until all the words are on the screen, which is given back.
    #[track_caller]
    pub fn waits_for(&self, words: &[&str]) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            let screen = self.screen();
            if words.iter().all(|word| screen.contains(word)) {
                return screen;
            }
            assert!(Instant::now() < until, "never all of {words:?} on the screen:\n{screen}");
            thread::sleep(LOOK);
        }
    }

    /// A program has the whole screen, and gives back what was there when it ends.
    pub fn is_alternate(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Sends a signal to what the shell runs, and waits for its end.
    #[track_caller]
    pub fn ends_its_program(&self, signal: i32) {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        let child: i32 = fs::read_to_string(&children).unwrap().trim().parse().unwrap();
        // SAFETY: plain numbers; the child is not reaped before its shell saw it end.
        assert_eq!(unsafe { libc::kill(child, signal) }, 0);
        let until = Instant::now() + LIMIT;
        while !fs::read_to_string(&children).unwrap().trim().is_empty() {
            assert!(Instant::now() < until, "it doesn't end by signal {signal}");
            thread::sleep(LOOK);
        }
    }

    /// The screen is the shell's again, and lines are edited and echoed.
    #[track_caller]
    pub fn is_as_it_was(&self) {
        assert!(!self.is_alternate());
        self.types(
            "stty -a | tr ' ;' '\\n\\n' | grep -E '^-?(icanon|echo|opost)$' | xargs echo modes\n",
        );
        let screen = self.waits_for(&["\nmodes "]);
        for mode in ["icanon", "echo", "opost"] {
            assert!(screen.contains(&format!(" {mode}")), "{screen}");
            assert!(!screen.contains(&format!(" -{mode}")), "{screen}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.ask(&["kill-server"]));
    }
}
