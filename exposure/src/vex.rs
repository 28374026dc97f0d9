//! OpenVEX 0.2.0. What was observed makes `affected` or `under_investigation`; `not_affected` is
//! somebody's word only.

use serde::Serialize;

use crate::verdict::{Row, Verdict};

const CONTEXT: &str = "https://openvex.dev/ns/v0.2.0";

/// The reasons that OpenVEX knows for `not_affected`.
pub const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

/// Somebody's word that a vulnerability affects nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    pub id: String,
    /// Of [`JUSTIFICATIONS`].
    pub justification: String,
    pub by: String,
    /// RFC 3339.
    pub until: String,
}

#[derive(Debug, Serialize)]
pub struct Document {
    #[serde(rename = "@context")]
    context: &'static str,
    #[serde(rename = "@id")]
    id: String,
    author: String,
    timestamp: String,
    version: u32,
    tooling: &'static str,
    statements: Vec<Statement>,
}

#[derive(Debug, Serialize)]
struct Statement {
    vulnerability: Named,
    products: Vec<Product>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    justification: Option<String>,
    status_notes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_statement: Option<String>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Product {
    #[serde(rename = "@id")]
    id: String,
}

/// The document of all rows. `window` says from when to when it was watched, and with which gaps;
/// `now` is RFC 3339.
pub fn document(
    rows: &[Row],
    assertions: &[Assertion],
    window: &str,
    host: &str,
    now: &str,
) -> Document {
    Document {
        context: CONTEXT,
        id: format!("urn:hedgerow:exposure:{host}:{now}"),
        author: assertions.first().map_or("hedgerow exposure", |one| &one.by).to_owned(),
        timestamp: now.to_owned(),
        version: 1,
        tooling: concat!("hedgerow ", env!("CARGO_PKG_VERSION")),
        statements: rows.iter().map(|row| statement(row, assertions, window)).collect(),
    }
}

fn statement(row: &Row, assertions: &[Assertion], window: &str) -> Statement {
    let of = &row.vulnerability;
    let installed = row.installed.as_deref().unwrap_or(&of.version);
    let package = row.package.as_deref().unwrap_or(&of.package);
    let observed = format!("Observed: {}: {}; {window}.", row.verdict.name(), row.why);
    let fix = match of.fixed.as_slice() {
        [] => format!(
            "No fixed version of {package} is known to the report: remove it, or stop using it."
        ),
        fixed => format!("Update {package} to {}.", fixed.join(" or ")),
    };
    let (status, action) = match row.verdict {
        Verdict::InUse => ("affected", Some(fix)),
        Verdict::Restart => {
            let pids: Vec<String> = row.live.iter().map(|one| one.pid.to_string()).collect();
            ("affected", Some(format!("Restart what still has the old file: {}.", pids.join(", "))))
        }
        Verdict::Fixed => ("fixed", None),
        Verdict::NotSeen | Verdict::Unknown => ("under_investigation", None),
    };
    let mut statement = Statement {
        vulnerability: Named { name: of.id.clone(), aliases: of.aliases.clone() },
        products: vec![Product {
            id: of.purl.clone().unwrap_or_else(|| format!("pkg:generic/{package}@{installed}")),
        }],
        status,
        justification: None,
        status_notes: observed,
        action_statement: action,
    };
    let meant = |one: &&Assertion| one.id == of.id || of.aliases.contains(&one.id);
    if let Some(assertion) = assertions.iter().find(meant) {
        let Assertion { justification, by, until, .. } = assertion;
        statement.status = "not_affected";
        statement.justification = Some(justification.clone());
        statement.status_notes =
            format!("Asserted by {by}, until {until}. {}", statement.status_notes);
        statement.action_statement = None;
    }
    statement
}
