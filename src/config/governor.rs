//! What Hedgerow may cost.

use serde::Deserialize;

use crate::text;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGovernor {
    /// Of one core, over a minute: "2%".
    cpu: Option<String>,
    /// "100MiB".
    memory: Option<String>,
}

/// Budgets; none holds where none is given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Governor {
    /// In cores.
    pub cpu: Option<f64>,
    /// In bytes.
    pub memory: Option<u64>,
}

/// A hundred cores.
const PERCENT_MAX: f64 = 10_000.0;
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl RawGovernor {
    /// What is wrong comes with its key.
    pub fn check(&self) -> Result<Governor, (&'static str, String)> {
        // Values are not told: one may be a password in the wrong place.
        let cpu = self.cpu.as_deref().map(|text| {
            let wrong = "write a part of a core above 0, as \"2%\"";
            cores(text).ok_or(("governor.cpu", wrong.to_owned()))
        });
        let memory = self.memory.as_deref().map(|text| {
            let wrong = "write a size, as \"100MiB\" or \"1GiB\"";
            bytes(text).ok_or(("governor.memory", wrong.to_owned()))
        });
        Ok(Governor { cpu: cpu.transpose()?, memory: memory.transpose()? })
    }
}

impl Governor {
    pub fn is_there(self) -> bool {
        self.cpu.is_some() || self.memory.is_some()
    }

    /// As the file would have it.
    pub fn written(self) -> toml::Table {
        // What is finer than a millionth of a core is the arithmetic's.
        let percent = |cores: f64| format!("{}%", (cores * 1e6).round() / 1e4);
        let cpu = self.cpu.map(|cores| ("cpu".to_owned(), percent(cores).into()));
        let memory = self.memory.map(|bytes| ("memory".to_owned(), text::size(bytes).into()));
        cpu.into_iter().chain(memory).collect()
    }
}

fn cores(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (percent > 0.0 && percent <= PERCENT_MAX).then_some(percent / 100.0)
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_core_and_sizes_are_read_and_nothing_else() {
        for (text, read) in [("2%", Some(0.02)), ("0.5 %", Some(0.005)), ("150%", Some(1.5))] {
            assert_eq!(cores(text), read);
        }
        for text in ["2", "0%", "-1%", "nan%", "inf%", "20000%", "%", ""] {
            assert_eq!(cores(text), None, "{text}");
        }
        assert_eq!(bytes("100MiB"), Some(100 << 20));
        assert_eq!(bytes("1 GiB"), Some(1 << 30));
        for text in ["100", "0MiB", "-1MiB", "1.5MiB", "100MB", "99999999999999GiB", "MiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
