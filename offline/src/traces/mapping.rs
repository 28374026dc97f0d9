//! What stands for a call in a trace.

use std::{collections::HashMap, fs, path::Path};

use hedgerow_event::calls::{TABLE_SIZE, Tables};

use crate::{Error, Result};

/// A call that this architecture doesn't have: it counts as one outside the tables.
pub const NONE: i32 = i32::MAX;
/// What a mapping file says of such a call.
const NO_NAME: &str = "-";
/// No table of calls is larger.
const BYTES_MAX: u64 = 1 << 20;

/// Native numbers by what stands in a trace.
#[derive(Debug, Clone)]
pub struct Mapping {
    numbers: HashMap<String, i32>,
    /// Told where a trace has something else.
    name: String,
}

impl Mapping {
    /// Native numbers and names of this architecture.
    pub fn native() -> Self {
        let mut numbers = HashMap::new();
        for (name, number) in names() {
            numbers.insert(name.to_owned(), number);
            numbers.insert(number.to_string(), number);
        }
        Self { numbers, name: "the native calls".to_owned() }
    }

    /// Reads lines of `token,name`, the first of which says so: what stands in a trace, and the
    /// native name of the call, or `-` where there is none. Names stand for themselves, too.
    ///
    /// # Errors
    /// The file can't be read; a line is no such pair, has a name that is no native call, or a token
    /// that another line has.
    pub fn read(path: &Path) -> Result<Self> {
        let length = fs::metadata(path).map_err(|why| Error::at(path, why))?.len();
        if length > BYTES_MAX {
            return Err(Error::at(path, "more than 1 MiB: this is no table of calls"));
        }
        let text = fs::read_to_string(path).map_err(|why| Error::at(path, why))?;
        let native: HashMap<&str, i32> = names().collect();
        let mut numbers: HashMap<String, i32> = HashMap::new();
        let mut lines = text.lines().zip(1u32..).filter(|(line, _)| !line.trim().is_empty());
        if lines.next().is_none_or(|(line, _)| line.trim() != "token,name") {
            return Err(Error::at(path, "line 1: a table of calls begins with `token,name`"));
        }
        for (line, number) in lines {
            let wrong = |why: String| Error::at(path, format!("line {number}: {why}"));
            let Some((token, name)) = line.trim().split_once(',') else {
                return Err(wrong("`token,name` is wanted".to_owned()));
            };
            let found = if name == NO_NAME { Some(&NONE) } else { native.get(name) };
            let Some(found) = found else {
                return Err(wrong(format!("{name:?} is no system call of this architecture")));
            };
            if numbers.insert(token.to_owned(), *found).is_some() {
                return Err(wrong(format!("{token:?} stands in an earlier line, too")));
            }
        }
        for (name, number) in native {
            numbers.entry(name.to_owned()).or_insert(number);
        }
        Ok(Self { numbers, name: path.display().to_string() })
    }

    /// The native number of what stands in a trace; `None` where it isn't known.
    pub fn number(&self, token: &str) -> Option<i32> {
        self.numbers.get(token).copied()
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

fn names() -> impl Iterator<Item = (&'static str, i32)> {
    let tables = Tables::new();
    let numbers = 0..i32::try_from(TABLE_SIZE).unwrap_or(i32::MAX);
    numbers.filter_map(move |number| Some((tables.name(number)?, number)))
}
