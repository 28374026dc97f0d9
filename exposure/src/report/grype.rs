//! `grype -o json`.

use serde::Deserialize;

use super::{Manager, Severity, Vulnerability, list, some};

#[derive(Deserialize)]
pub struct Report {
    #[serde(default, deserialize_with = "list")]
    matches: Vec<Match>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    vulnerability: Known,
    #[serde(default, deserialize_with = "list")]
    related_vulnerabilities: Vec<Related>,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct Known {
    id: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    fix: Fix,
}

#[derive(Default, Deserialize)]
struct Fix {
    #[serde(default, deserialize_with = "list")]
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct Related {
    id: String,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "list")]
    locations: Vec<Location>,
    #[serde(default)]
    purl: String,
}

#[derive(Deserialize)]
struct Location {
    path: String,
}

impl Report {
    pub fn vulnerabilities(self) -> Box<dyn Iterator<Item = Vulnerability>> {
        Box::new(self.matches.into_iter().map(|one| {
            Vulnerability {
                severity: Severity::named(&one.vulnerability.severity),
                aliases: one
                    .related_vulnerabilities
                    .into_iter()
                    .map(|related| related.id)
                    .filter(|id| *id != one.vulnerability.id)
                    .collect(),
                id: one.vulnerability.id,
                package: one.artifact.name,
                version: one.artifact.version,
                fixed: one.vulnerability.fix.versions,
                manager: Manager::named(&one.artifact.r#type),
                path: one.artifact.locations.into_iter().next().map(|location| location.path),
                purl: some(one.artifact.purl),
            }
        }))
    }
}
