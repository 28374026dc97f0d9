//! `trivy --format json`.

use serde::Deserialize;

use super::{Manager, Severity, Vulnerability, list, some};

#[derive(Deserialize)]
pub struct Report {
    #[serde(rename = "Results", default, deserialize_with = "list")]
    results: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "list")]
    vulnerabilities: Vec<Found>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    pkg_name: String,
    #[serde(default)]
    pkg_path: String,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    pkg_identifier: Identifier,
}

#[derive(Default, Deserialize)]
struct Identifier {
    #[serde(rename = "PURL")]
    purl: Option<String>,
}

impl Report {
    pub fn vulnerabilities(self) -> Box<dyn Iterator<Item = Vulnerability>> {
        Box::new(self.results.into_iter().flat_map(|part| {
            let manager = Manager::named(&part.r#type);
            part.vulnerabilities.into_iter().map(move |found| Vulnerability {
                severity: Severity::named(&found.severity),
                id: found.id,
                aliases: Vec::new(),
                package: match manager {
                    // group:artifact
                    Manager::Java => found.pkg_name.rsplit(':').next().unwrap_or_default().into(),
                    _ => found.pkg_name,
                },
                version: found.installed_version,
                fixed: found
                    .fixed_version
                    .split(',')
                    .map(str::trim)
                    .map(String::from)
                    .filter_map(some)
                    .collect(),
                manager,
                path: some(found.pkg_path),
                purl: found.pkg_identifier.purl,
            })
        }))
    }
}
