//! CycloneDX with vulnerabilities, as JSON.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Manager, Severity, Vulnerability, list, purl};

#[derive(Deserialize)]
pub struct Report {
    #[serde(default, deserialize_with = "list")]
    components: Vec<Component>,
    #[serde(default, deserialize_with = "list")]
    vulnerabilities: Vec<Known>,
}

#[derive(Clone, Deserialize)]
struct Component {
    #[serde(rename = "bom-ref", default)]
    reference: String,
    name: String,
    #[serde(default)]
    version: String,
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Known {
    id: String,
    #[serde(default, deserialize_with = "list")]
    ratings: Vec<Rating>,
    #[serde(default, deserialize_with = "list")]
    affects: Vec<Affects>,
}

#[derive(Deserialize)]
struct Rating {
    #[serde(default)]
    severity: String,
}

#[derive(Deserialize)]
struct Affects {
    r#ref: String,
}

impl Report {
    pub fn vulnerabilities(self) -> Box<dyn Iterator<Item = Vulnerability>> {
        let known = self.components.into_iter().map(|one| (one.reference.clone(), one));
        let components: HashMap<String, Component> = known.collect();
        Box::new(self.vulnerabilities.into_iter().flat_map(move |known| {
            let ratings = known.ratings.iter().map(|rating| Severity::named(&rating.severity));
            let severity = ratings.max().unwrap_or_default();
            let found = known.affects.iter().map(|affects| {
                let component = components.get(&affects.r#ref).cloned();
                one(&known.id, severity, component, &affects.r#ref)
            });
            found.collect::<Vec<_>>()
        }))
    }
}

/// A reference of which the document has no component still names a package where it is a package
/// URL.
fn one(
    id: &str,
    severity: Severity,
    component: Option<Component>,
    reference: &str,
) -> Vulnerability {
    let url = component.as_ref().and_then(|component| component.purl.clone());
    let url = url.or_else(|| reference.starts_with("pkg:").then(|| reference.to_owned()));
    let parsed = url.as_deref().and_then(purl::parse);
    let manager = parsed.as_ref().map_or(Manager::Other, |parsed| parsed.manager);
    let (name, version) = match (component, parsed) {
        (_, Some(parsed)) => (parsed.name, parsed.version),
        (Some(component), None) => (component.name, component.version),
        (None, None) => (reference.to_owned(), String::new()),
    };
    Vulnerability {
        id: id.to_owned(),
        aliases: Vec::new(),
        severity,
        package: name,
        version,
        fixed: Vec::new(),
        manager,
        path: None,
        purl: url,
    }
}
