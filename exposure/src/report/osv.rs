//! `osv-scanner --format json`.

use serde::Deserialize;

use super::{Manager, Severity, Vulnerability, list, some};

#[derive(Deserialize)]
pub struct Report {
    #[serde(default, deserialize_with = "list")]
    results: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    source: Source,
    #[serde(default, deserialize_with = "list")]
    packages: Vec<Package>,
}

#[derive(Default, Deserialize)]
struct Source {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
struct Package {
    package: Named,
    #[serde(default, deserialize_with = "list")]
    vulnerabilities: Vec<Known>,
    #[serde(default, deserialize_with = "list")]
    groups: Vec<Group>,
}

#[derive(Clone, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    ecosystem: String,
}

#[derive(Deserialize)]
struct Known {
    id: String,
    #[serde(default, deserialize_with = "list")]
    aliases: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    affected: Vec<Affected>,
}

#[derive(Deserialize)]
struct Affected {
    package: Option<Named>,
    #[serde(default, deserialize_with = "list")]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default, deserialize_with = "list")]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    fixed: Option<String>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default, deserialize_with = "list")]
    ids: Vec<String>,
    #[serde(default)]
    max_severity: String,
}

impl Report {
    pub fn vulnerabilities(self) -> Box<dyn Iterator<Item = Vulnerability>> {
        Box::new(self.results.into_iter().flat_map(|part| {
            let path = some(part.source.path);
            part.packages.into_iter().flat_map(move |package| {
                let path = path.clone();
                let Package { package, vulnerabilities, groups } = package;
                vulnerabilities
                    .into_iter()
                    .map(move |known| one(known, &package, &groups, path.clone()))
            })
        }))
    }
}

fn one(known: Known, package: &Named, groups: &[Group], path: Option<String>) -> Vulnerability {
    let manager = Manager::named(&package.ecosystem);
    let about = |affected: &&Affected| {
        let of = affected.package.as_ref();
        of.is_none_or(|of| of.name == package.name && of.ecosystem == package.ecosystem)
    };
    let fixed = known.affected.iter().filter(about);
    let fixed = fixed.flat_map(|affected| &affected.ranges).flat_map(|range| &range.events);
    let group = groups.iter().find(|group| group.ids.contains(&known.id));
    Vulnerability {
        severity: group.map_or(Severity::Unknown, |group| Severity::scored(&group.max_severity)),
        package: match manager {
            Manager::Java => package.name.rsplit(':').next().unwrap_or_default().into(),
            _ => package.name.clone(),
        },
        version: package.version.clone(),
        fixed: fixed.filter_map(|event| event.fixed.clone()).collect(),
        manager,
        path,
        purl: None,
        id: known.id,
        aliases: known.aliases,
    }
}
