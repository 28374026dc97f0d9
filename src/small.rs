//! What stands in place of captures and the flight recorder's files where the build for small hosts leaves
//! them out (`--no-default-features`).

use std::path::Path;

use crate::exit::Failure;

fn left_out(what: &str) -> Failure {
    Failure::Usage(format!("{what}: this build, for small hosts, keeps and reads no captures"))
}

pub mod fleet {
    use super::{Failure, Path, left_out};

    pub fn key(_: &Path) -> anyhow::Result<u64, Failure> {
        Err(left_out("a fleet's key"))
    }
}

pub mod records {
    use hedgerow_event::{Event, calls::Tables};

    use super::{Path, left_out};
    use crate::host::Host;

    pub fn write(
        _: &Path,
        _: &str,
        _: &Host,
        _: impl Iterator<Item = Event>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    pub fn read(_: &Path, _: &str) -> anyhow::Result<(Vec<Event>, i64)> {
        Err(left_out("what led to a finding").into())
    }

    pub fn told(_: &Event, _: i64, _: &Tables) -> String {
        String::new()
    }
}

pub mod capture {
    use hedgerow_detect::{Phase, Schedule};
    use hedgerow_event::{Epoch, EpochClose};
    use hedgerow_features::{Record, Window};
    use hedgerow_responder::Responder;

    use super::{Path, left_out};
    use crate::host::Host;

    #[derive(Debug, Clone, Copy)]
    pub struct Run {
        pub seed: u64,
        pub schedule: Option<Schedule>,
        pub budget_per_day: f64,
        pub full: bool,
        pub syscalls: bool,
    }

    #[derive(Debug)]
    pub struct ParquetStatus {
        pub rows: u64,
        pub rows_lost: u64,
        pub files: u64,
    }

    /// There is none.
    #[derive(Debug)]
    pub enum Capture {}

    impl Capture {
        pub fn start(_: &Path, _: &Host, _: Run) -> anyhow::Result<Self> {
            Err(left_out("--capture").into())
        }

        pub fn failure(&self) -> Option<&str> {
            match *self {}
        }

        pub fn records(&mut self, _: Vec<Record>) {
            match *self {}
        }

        pub fn windows(&mut self, _: Vec<Window>) {
            match *self {}
        }

        pub fn phase(&mut self, _: Phase, _: Option<&EpochClose>) {
            match *self {}
        }

        pub fn known_since(&mut self, _: Option<Epoch>) {
            match *self {}
        }

        pub fn model(&mut self, _: &str) {
            match *self {}
        }

        pub fn grounds(&mut self, _: &Responder, _: bool, _: u64) {
            match *self {}
        }

        pub fn finish(self) -> (ParquetStatus, u64, Option<String>) {
            match self {}
        }
    }
}
