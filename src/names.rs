//! Names and uids as people type them: whole, begun or misspelt.

use std::collections::BTreeSet;

/// Candidates that are told.
const CANDIDATES: usize = 8;

/// The only one of `all` that begins with `given`, or is it, or whose own part behind the last `-`
/// begins so. `what` names them for people.
///
/// # Errors
/// None begins so, or several do: then they are named.
pub fn begun<'a>(
    what: &str,
    given: &str,
    all: impl IntoIterator<Item = &'a str>,
) -> Result<&'a str, String> {
    // An entry's uid is its boot's, which all share, and then its own.
    let own = |uid: &'a str| uid.rsplit('-').next().unwrap_or(uid);
    let fits = |uid: &&'a str| uid.starts_with(given) || own(uid).starts_with(given);
    let found: BTreeSet<&str> = all.into_iter().filter(fits).collect();
    if let Some(same) = found.get(given) {
        return Ok(same);
    }
    if given.is_empty() {
        return Err(format!("give the uid of {what}, or its beginning"));
    }
    let mut each = found.iter();
    match (each.next(), each.next()) {
        (None, _) => Err(format!("no uid of {what} begins with `{given}`")),
        (Some(one), None) => Ok(one),
        _ => {
            let some: Vec<&str> = found.iter().take(CANDIDATES).copied().collect();
            let more = found.len() - some.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let some = some.join(", ");
            Err(format!("`{given}` is the beginning of {} uids: {some}{more}", found.len()))
        }
    }
}

/// Refuses a name that is none of `all`, with the nearest one.
///
/// # Errors
/// It is not known.
pub fn known<'a>(
    what: &str,
    given: &str,
    all: impl IntoIterator<Item = &'a str>,
) -> Result<(), String> {
    match nearest(given, all) {
        Near::Same => Ok(()),
        Near::Like(name) => Err(format!("no {what} is called `{given}`; did you mean `{name}`?")),
        Near::None => {
            Err(format!("no {what} is called `{given}`; `hedgerow status --json` names all"))
        }
    }
}

/// Refuses the path of a program that is none of `all` that ran, with the nearest one.
///
/// # Errors
/// It is none of them.
pub fn ran<'a>(path: &str, all: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    match nearest(path, all) {
        Near::Same => Ok(()),
        Near::Like(name) => Err(format!("no program `{path}` ran; did you mean `{name}`?")),
        Near::None => Err(format!(
            "`{path}` was not seen since the daemon began; only what ran since can be named"
        )),
    }
}

enum Near<'a> {
    Same,
    Like(&'a str),
    None,
}

fn nearest<'a>(given: &str, all: impl IntoIterator<Item = &'a str>) -> Near<'a> {
    let mut nearest: Option<(usize, &str)> = None;
    for name in all {
        if name == given {
            return Near::Same;
        }
        let distance = match name.starts_with(given) || name.ends_with(given) {
            true => 1,
            false => distance(given, name),
        };
        if nearest.is_none_or(|(least, _)| distance < least) {
            nearest = Some((distance, name));
        }
    }
    // Half of the letters wrong is another name; a common directory makes no likeness.
    let own = given.rsplit('/').next().unwrap_or(given);
    match nearest.filter(|(distance, _)| 2 * distance <= own.chars().count().max(2)) {
        Some((_, name)) => Near::Like(name),
        None => Near::None,
    }
}

/// Letters to insert, leave out, change or swap with the next one to make one name of the other.
fn distance(a: &str, b: &str) -> usize {
    /// Longer names are compared by their beginnings.
    const LETTERS_MAX: usize = 64;
    let [a, b] = [a, b].map(|text| text.chars().take(LETTERS_MAX).collect::<Vec<char>>());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least =
                (rows[i][j] + usize::from(x != y)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_that_fits_several_is_refused_with_the_candidates() {
        let all = ["8523", "8599", "9000"];
        assert_eq!(begun("a finding", "9", all), Ok("9000"));
        let several = begun("a finding", "8", all).unwrap_or_else(|why| why.leak());
        assert!(several.contains("8523, 8599"), "{several}");
        assert!(begun("a finding", "7", all).is_err_and(|why| why.contains("begins with `7`")));
        assert!(begun("a finding", "", all).is_err());
        assert_eq!(begun("a finding", "85", ["85", "851"]), Ok("85"), "a whole one is meant");
        let entries = ["b007-4f1c", "b007-93ab"];
        assert_eq!(begun("an entry", "93", entries), Ok("b007-93ab"));
        assert!(begun("an entry", "b007", entries).is_err());
    }

    #[test]
    fn a_misspelt_name_is_refused_with_the_nearest() {
        let all = ["nginx.service", "postgresql.service", "host"];
        assert_eq!(known("workload", "nginx.service", all), Ok(()));
        for (given, near) in
            [("ngnix.service", "`nginx.service`"), ("nginx", "`nginx.service`"), ("hsot", "`host`")]
        {
            let why = known("workload", given, all).err().unwrap_or_default();
            assert!(why.contains(near), "{given}: {why}");
        }
        let far = known("workload", "zzzzzz", all).err().unwrap_or_default();
        assert!(!far.contains("did you mean"), "{far}");
        let ran = |path: &str| ran(path, ["/usr/bin/true", "/usr/bin/python3.11"]).err();
        assert_eq!(ran("/usr/bin/true"), None);
        for path in ["/usr/bin/python3.12", "python3.11"] {
            assert!(ran(path).is_some_and(|why| why.contains("mean `/usr/bin/python3.11`")));
        }
        let far = ran("/usr/bin/sleep").unwrap_or_default();
        assert!(far.contains("not seen") && !far.contains("mean"), "{far}");
    }
}
