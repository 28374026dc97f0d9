//! Selectors of labels, as `kubectl get pods --selector` takes them.

use std::collections::BTreeMap;

/// Longest selector, and most of its parts.
const BYTES_MAX: usize = 1024;
const PARTS_MAX: usize = 16;

/// All of its parts have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    In(String, Vec<String>),
    /// Also where there is no such label.
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    /// # Errors
    /// It is none, or empty, which would select all pods.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            let part = hedgerow_event::gate::text(part.trim());
            format!(
                "`{part}` is no part of a selector: write app=web, app!=web, app, !app, or app in (web,api), \
                 with commas between them"
            )
        };
        if text.len() > BYTES_MAX {
            return Err(format!("a selector is at most {BYTES_MAX} bytes long"));
        }
        let parts = split(text);
        if parts.len() > PARTS_MAX {
            return Err(format!("a selector has at most {PARTS_MAX} parts"));
        }
        parts
            .iter()
            .map(|part| Part::parse(part).ok_or_else(|| wrong(part)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|part| match part {
            Part::In(name, values) => labels.get(name).is_some_and(|value| values.contains(value)),
            Part::NotIn(name, values) => {
                labels.get(name).is_none_or(|value| !values.contains(value))
            }
            Part::Exists(name) => labels.contains_key(name),
            Part::Missing(name) => !labels.contains_key(name),
        })
    }
}

/// At commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let comma = move |letter: char| {
        is_inside = (is_inside || letter == '(') && letter != ')';
        letter == ',' && !is_inside
    };
    text.split(comma).collect()
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('!') {
            return named(name).map(Self::Missing);
        }
        if let Some((name, value)) = text.split_once("!=") {
            return Some(Self::NotIn(named(name)?, vec![valued(value)?]));
        }
        if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Some(Self::In(named(name)?, vec![valued(value)?]));
        }
        let Some((head, values)) = text.strip_suffix(')').and_then(|text| text.split_once('('))
        else {
            return named(text).map(Self::Exists);
        };
        let values = values.split(',').map(valued).collect::<Option<Vec<String>>>()?;
        let mut words = head.split_whitespace();
        let (name, how) = (named(words.next()?)?, words.next()?);
        match (how, words.next()) {
            ("in", None) => Some(Self::In(name, values)),
            ("notin", None) => Some(Self::NotIn(name, values)),
            _ => None,
        }
    }
}

fn named(text: &str) -> Option<String> {
    Some(text.trim()).filter(|name| !name.is_empty() && is_plain(name)).map(str::to_owned)
}

fn valued(text: &str) -> Option<String> {
    Some(text.trim()).filter(|value| is_plain(value)).map(str::to_owned)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_selector_selects_as_kubectl_does() {
        let labels: BTreeMap<String, String> = [("app", "web"), ("tier", ""), ("a.b/c", "d")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (selector, selects) in [
            ("app=web", true),
            ("app==web", true),
            ("app = web , a.b/c=d", true),
            ("app=api", false),
            ("app!=api", true),
            ("none!=x", true),
            ("app in (api, web)", true),
            ("app in (api),tier", false),
            ("app notin (api,db),!none", true),
            ("none notin (x)", true),
            ("tier=", true),
            ("tier", true),
            ("!tier", false),
            ("none", false),
        ] {
            assert_eq!(Selector::parse(selector).unwrap().selects(&labels), selects, "{selector}");
        }
    }

    #[test]
    fn what_is_none_selects_nothing_and_above_all_not_everything() {
        let many = "a,".repeat(PARTS_MAX) + "a";
        for text in [
            "",
            " ",
            ",",
            "app=web,",
            "=web",
            "app in web",
            "app in (web",
            "app like (web)",
            "a b",
            "app=w\u{1b}",
            "!",
            &many,
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        assert!(!Selector::parse("a\u{1b}[31m").unwrap_err().is_empty());
    }
}
