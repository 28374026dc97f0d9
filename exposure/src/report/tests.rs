#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parsed(report: &Value) -> Vec<Vulnerability> {
    parse("r.json", report.to_string().as_bytes()).unwrap()
}

fn trivy() -> Value {
    json!({ "SchemaVersion": 2, "Results": [
        { "Target": "a (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [{
            "VulnerabilityID": "CVE-2026-1", "PkgName": "libx1", "InstalledVersion": "1.0-1",
            "FixedVersion": "1.0-2, 2.0", "Severity": "HIGH",
            "PkgIdentifier": { "PURL": "pkg:deb/debian/libx1@1.0-1?arch=amd64" } }] },
        { "Target": "Java", "Type": "jar", "Vulnerabilities": [{
            "VulnerabilityID": "CVE-2026-2", "PkgName": "org.x:core", "PkgPath": "app/core-1.jar",
            "InstalledVersion": "1", "Severity": "CRITICAL" }] },
        { "Target": "b", "Type": "npm", "Vulnerabilities": null } ] })
}

#[test]
fn trivy_names_package_versions_and_place() {
    let found = parsed(&trivy());
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].package.as_str(), found[0].manager), ("libx1", Manager::Dpkg));
    assert_eq!((found[0].severity, found[0].fixed.len()), (Severity::High, 2));
    assert_eq!((found[1].package.as_str(), found[1].manager), ("core", Manager::Java));
    assert_eq!(found[1].path.as_deref(), Some("app/core-1.jar"));
    assert!(found[1].fixed.is_empty());
}

#[test]
fn grype_names_related_vulnerabilities() {
    let found = parsed(&json!({ "matches": [{
        "vulnerability": { "id": "GHSA-1", "severity": "Medium", "fix": { "versions": ["2"] } },
        "relatedVulnerabilities": [{ "id": "CVE-2026-3" }],
        "artifact": { "name": "flask", "version": "1", "type": "python", "purl": "pkg:pypi/flask@1",
            "locations": [{ "path": "/usr/lib/x.dist-info/METADATA" }] } }] }));
    assert_eq!((found[0].id.as_str(), found[0].manager), ("GHSA-1", Manager::Python));
    assert_eq!(
        (found[0].aliases.as_slice(), found[0].fixed.as_slice()),
        (&["CVE-2026-3".to_owned()][..], &["2".to_owned()][..])
    );
    assert_eq!(found[0].severity, Severity::Medium);
}

#[test]
fn osv_takes_the_fix_of_the_package_concerned() {
    let range = |version| json!([{ "events": [{ "introduced": "0" }, { "fixed": version }] }]);
    let of = |name| json!({ "name": name, "ecosystem": "npm", "version": "1.0.0" });
    let found = parsed(&json!({ "results": [{
        "source": { "path": "/app/package-lock.json", "type": "lockfile" },
        "packages": [{ "package": of("left"), "groups": [{ "ids": ["GHSA-2"], "max_severity": "9.8" }],
            "vulnerabilities": [{ "id": "GHSA-2", "aliases": ["CVE-2026-4"], "affected": [
                { "package": of("right"), "ranges": range("7") },
                { "package": of("left"), "ranges": range("1.2.3") }] }] }] }] }));
    assert_eq!((found[0].package.as_str(), found[0].manager), ("left", Manager::Node));
    assert_eq!(
        (found[0].fixed.as_slice(), found[0].severity),
        (&["1.2.3".to_owned()][..], Severity::Critical)
    );
}

#[test]
fn cyclonedx_joins_components_by_their_reference() {
    let found = parsed(&json!({ "bomFormat": "CycloneDX", "specVersion": "1.6",
        "components": [{ "bom-ref": "a", "name": "z", "version": "1",
            "purl": "pkg:npm/%40scope/thing@1.2%2B3" }],
        "vulnerabilities": [
            { "id": "CVE-2026-5", "ratings": [{ "severity": "low" }, { "severity": "high" }],
              "affects": [{ "ref": "a" }, { "ref": "pkg:deb/debian/curl@7.1?arch=amd64" }] }] }));
    let names: Vec<_> =
        found.iter().map(|one| (one.package.as_str(), one.version.as_str())).collect();
    assert_eq!(names, [("@scope/thing", "1.2+3"), ("curl", "7.1")]);
    assert_eq!((found[0].severity, found[1].manager), (Severity::High, Manager::Dpkg));
}

#[test]
fn errors_name_the_file_and_the_field() {
    let mut report = trivy();
    report["Results"][0]["Vulnerabilities"][0]["PkgName"] = json!(7);
    let why = parse("r.json", report.to_string().as_bytes()).unwrap_err().to_string();
    assert!(
        why.starts_with("r.json: Results[0].Vulnerabilities[0].PkgName: invalid type"),
        "{why}"
    );
    for foreign in [json!({}), json!({ "bomFormat": "CycloneDX", "components": [] })] {
        let why = parse("r.json", foreign.to_string().as_bytes()).unwrap_err();
        assert!(matches!(why, Error::Foreign { .. }), "{why}");
    }
    let deep = "[".repeat(100_000);
    assert!(parse("r.json", format!("{{\"matches\":{deep}").as_bytes()).is_err());
}

#[test]
fn what_is_left_out_would_look_harmless_so_that_too_much_is_an_error() {
    let one = "{\"vulnerability\":{\"id\":\"a\"},\"artifact\":{\"name\":\"b\"}},";
    let many = one.repeat(VULNERABILITIES_MAX + 1);
    let report = format!("{{\"matches\":[{}]}}", many.trim_end_matches(','));
    let why = parse("r.json", report.as_bytes()).unwrap_err();
    assert!(matches!(why, Error::TooMany { .. }), "{why}");
}

proptest! {
    #[test]
    fn no_cut_or_changed_report_panics(at in 0usize..600, byte in any::<u8>()) {
        let mut bytes = trivy().to_string().into_bytes();
        drop(parse("r", &bytes[..at.min(bytes.len())]));
        let at = at % bytes.len();
        bytes[at] = byte;
        drop(parse("r", &bytes));
    }

    #[test]
    fn any_text_is_a_package_url_or_none(text in "(pkg:)?[a-z%/@?#0-9]{0,40}") {
        let _ = purl::parse(&text);
    }
}
