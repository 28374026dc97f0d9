//! Reports of scanners: which known vulnerability is in which package. Bounded, and errors name the
//! file and the field.

mod cyclonedx;
mod grype;
mod osv;
mod purl;
mod trivy;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use crate::Error;

/// A report's size.
pub const BYTES_MAX: u64 = 128 << 20;
/// What is taken of one report; more is an error, since what is left out would look harmless.
pub const VULNERABILITIES_MAX: usize = 200_000;

/// How grave a scanner says that it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    #[default]
    Unknown,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// As findings name it.
    pub fn known(self) -> Option<hedgerow_event::Severity> {
        Some(match self {
            Self::Unknown => return None,
            Self::Low => hedgerow_event::Severity::Low,
            Self::Medium => hedgerow_event::Severity::Medium,
            Self::High => hedgerow_event::Severity::High,
            Self::Critical => hedgerow_event::Severity::Critical,
        })
    }

    fn named(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "low" | "negligible" | "info" | "none" => Self::Low,
            "medium" | "moderate" => Self::Medium,
            "high" | "important" => Self::High,
            "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }

    /// Of a CVSS score.
    fn scored(score: &str) -> Self {
        match score.parse::<f64>() {
            Ok(score) if score >= 9.0 => Self::Critical,
            Ok(score) if score >= 7.0 => Self::High,
            Ok(score) if score >= 4.0 => Self::Medium,
            Ok(score) if score > 0.0 => Self::Low,
            _ => Self::Unknown,
        }
    }
}

/// Who manages a package, which says where its files are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    Dpkg,
    Apk,
    Rpm,
    Python,
    Node,
    Java,
    Other,
}

impl Manager {
    /// By the type of a package URL, or what a scanner calls it.
    fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        // OSV writes `Debian:12`.
        match name.split(':').next().unwrap_or_default() {
            "deb" | "debian" | "ubuntu" | "dpkg" => Self::Dpkg,
            "apk" | "alpine" | "wolfi" | "chainguard" => Self::Apk,
            "rpm" | "redhat" | "centos" | "rocky" | "alma" | "almalinux" | "fedora" | "amazon"
            | "oracle" | "suse" | "opensuse" | "photon" | "azurelinux" | "cbl-mariner" => Self::Rpm,
            "pypi" | "python" | "python-pkg" | "pip" | "poetry" | "pipenv" | "uv" => Self::Python,
            "npm" | "node-pkg" | "yarn" | "pnpm" => Self::Node,
            "maven" | "jar" | "java-archive" | "pom" | "gradle" => Self::Java,
            _ => Self::Other,
        }
    }
}

/// A known vulnerability in a package, as one report has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vulnerability {
    pub id: String,
    pub aliases: Vec<String>,
    pub severity: Severity,
    /// Name of the binary or of the source package.
    pub package: String,
    /// As the report found it.
    pub version: String,
    /// Versions in which it is fixed.
    pub fixed: Vec<String>,
    pub manager: Manager,
    /// Where the report found it, below its root.
    pub path: Option<String>,
    pub purl: Option<String>,
}

/// What tells the formats apart.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "bomFormat")]
    bom_format: Option<IgnoredAny>,
    #[serde(rename = "SchemaVersion")]
    schema_version: Option<IgnoredAny>,
    matches: Option<IgnoredAny>,
    results: Option<IgnoredAny>,
    vulnerabilities: Option<IgnoredAny>,
}

/// Reads a report of whatever format.
///
/// # Errors
/// It is none, or a field isn't what the format says.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Vulnerability>, Error> {
    let shape: Shape = read(file, bytes)?;
    let found = match shape {
        Shape { bom_format: Some(_), vulnerabilities: Some(_), .. } => {
            read::<cyclonedx::Report>(file, bytes)?.vulnerabilities()
        }
        Shape { bom_format: Some(_), .. } => return Err(Error::Foreign { file: file.into() }),
        Shape { schema_version: Some(_), .. } => {
            read::<trivy::Report>(file, bytes)?.vulnerabilities()
        }
        Shape { matches: Some(_), .. } => read::<grype::Report>(file, bytes)?.vulnerabilities(),
        Shape { results: Some(_), .. } => read::<osv::Report>(file, bytes)?.vulnerabilities(),
        _ => return Err(Error::Foreign { file: file.into() }),
    };
    let found: Vec<_> = found.take(VULNERABILITIES_MAX + 1).collect();
    if found.len() > VULNERABILITIES_MAX {
        let (file, max) = (file.into(), VULNERABILITIES_MAX);
        return Err(Error::TooMany { file, what: "vulnerabilities", max });
    }
    Ok(found)
}

fn read<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|why| Error::Field {
        file: file.into(),
        field: why.path().to_string(),
        why: why.into_inner().to_string(),
    })
}

/// A list that may also be null.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What isn't empty.
fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
