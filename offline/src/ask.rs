//! Which captures, and what of them: as every verb is asked, on the command line and in Python.

use std::path::PathBuf;

use chrono_tz::Tz;
use glob::Pattern;

use crate::{
    Error, Result,
    condition::Condition,
    player::Only,
    source::{Selection, Source},
    time::{self, Span},
};

/// What is asked for, as it was said.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub captures: Vec<PathBuf>,
    pub hosts: Vec<Pattern>,
    pub workloads: Vec<Pattern>,
    pub programs: Vec<Pattern>,
    pub condition: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub tz: String,
}

/// The same, checked and found.
#[derive(Debug)]
pub struct Asked {
    pub source: Source,
    pub span: Span,
    pub only: Only,
}

impl Ask {
    /// The zone of times that name none.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn zone(&self) -> Result<Tz> {
        time::zone(&self.tz).map_err(|why| Error::Usage(format!("--tz: {why}")))
    }

    /// # Errors
    /// Names the option that is wrong; or as [`Source::open`].
    pub fn open(&self) -> Result<Asked> {
        let zone = self.zone()?;
        let usage = |option: &str, why: String| Error::Usage(format!("{option}: {why}"));
        let at = |option: &str, text: &Option<String>, without: i64| -> Result<i64> {
            let time = text.as_deref().map(|text| time::parse(text, zone));
            Ok(time.transpose().map_err(|why| usage(option, why))?.unwrap_or(without))
        };
        let span = Span {
            from_ns: at("--from", &self.from, Span::ALL.from_ns)?,
            to_ns: at("--to", &self.to, Span::ALL.to_ns)?,
        };
        if span.from_ns >= span.to_ns {
            return Err(Error::Usage("--to: it is not after --from".to_owned()));
        }
        let condition = self.condition.as_deref().map(str::parse::<Condition>).transpose();
        let condition = condition.map_err(|why| usage("--where", why))?;
        let hosts = self.hosts.clone();
        let selection = Selection { hosts, condition: condition.clone(), span };
        let source = Source::open(&self.captures, &selection)?;
        let (workloads, programs) = (self.workloads.clone(), self.programs.clone());
        Ok(Asked { source, span, only: Only { workloads, programs, condition } })
    }
}
