//! Which of two versions is newer, by the rules of the package's manager.

use std::{borrow::Cow, cmp::Ordering};

use hedgerow_event::version;

use crate::{packages::Package, report::Manager};

impl Package {
    /// Whether it is as new as each of these versions, which have the fix by a report. Of Debian's packages
    /// reports tell the source's version, in rows with a binary package's name, too. Where a manager's order
    /// isn't known here only the very version counts.
    pub(crate) fn has_fix(&self, fixed: &[String]) -> bool {
        let installed = self.source_version.as_deref().unwrap_or(&self.version);
        let compare: fn(&str, &str) -> Ordering = match self.manager {
            Manager::Dpkg => version::compare,
            Manager::Apk => |a, b| version::compare(&before_release(a), &before_release(b)),
            _ => return fixed.iter().any(|fix| fix == installed),
        };
        !fixed.is_empty() && fixed.iter().all(|fix| compare(installed, fix).is_ge())
    }
}

/// A version of Alpine's (apk-package(5)) as Debian would write it: what comes before the release sorts before
/// the end. `_p1`, `_git1` and their like come after it in both.
fn before_release(version: &str) -> Cow<'_, str> {
    const EARLY: [&str; 4] = ["_alpha", "_beta", "_pre", "_rc"];
    let mut written = Cow::Borrowed(version);
    for suffix in EARLY.iter().filter(|suffix| version.contains(*suffix)) {
        written = written.replace(suffix, &suffix.replace('_', "~")).into();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_fix(manager: Manager, version: &str, source: Option<&str>, fixed: &[&str]) -> bool {
        let package = Package {
            name: "x".into(),
            source: None,
            version: version.into(),
            source_version: source.map(String::from),
            manager,
            files: Err(String::new()),
        };
        package.has_fix(&fixed.iter().map(|fix| (*fix).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_binary_package_with_an_epoch_of_its_own_has_no_fix_that_its_source_lacks() {
        let of = |version, source, fix| has_fix(Manager::Dpkg, version, source, &[fix]);
        assert!(!of("2:1.02.185-2", Some("2.03.16-2"), "2.03.22-1"));
        assert!(of("2:1.02.185-2", Some("2.03.22-1"), "2.03.22-1"));
        assert!(of("1.0-1+b1", Some("1.0-1"), "1.0-1"));
        assert!(!of("1.0-1", None, "1.0-2") && of("1.0-2", None, "1.0-2"));
        assert!(!has_fix(Manager::Dpkg, "1.0-2", None, &[]));
        assert!(!has_fix(Manager::Dpkg, "1.0-2", None, &["1.0-1", "1.1-1"]), "the newest counts");
    }

    #[test]
    fn before_a_release_is_older_than_it_for_apk() {
        let older = |left, right| {
            assert!(has_fix(Manager::Apk, right, None, &[left]), "{left} {right}");
            assert!(!has_fix(Manager::Apk, left, None, &[right]), "{left} {right}");
        };
        older("1.2.3_rc1-r0", "1.2.3-r0");
        older("1.2.3_alpha-r0", "1.2.3_beta-r0");
        older("1.2.3_pre2-r0", "1.2.3_rc1-r0");
        older("1.2.3-r0", "1.2.3_p1-r0");
        older("1.2.3_git20260101-r0", "1.2.4-r0");
        older("1.2.3-r9", "1.2.3-r10");
        older("1.2.3-r0", "1.2.3a-r0");
    }
}
