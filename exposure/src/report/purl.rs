//! Package URLs: `pkg:type/namespace/name@version?qualifiers`.

use super::Manager;

pub struct Purl {
    pub manager: Manager,
    pub name: String,
    pub version: String,
}

/// What of a package URL names a package; `None` for what is none.
pub fn parse(text: &str) -> Option<Purl> {
    let rest = text.strip_prefix("pkg:")?;
    let rest = rest.split(['?', '#']).next()?;
    let (kind, rest) = rest.trim_start_matches('/').split_once('/')?;
    let (path, version) = rest.rsplit_once('@').unwrap_or((rest, ""));
    let manager = Manager::named(kind);
    let name = match (manager, path.rsplit_once('/')) {
        // npm has scopes in its names; of others the namespace is the distribution or the group.
        (Manager::Node, _) | (_, None) => path,
        (_, Some((_, name))) => name,
    };
    Some(Purl { manager, name: decoded(name), version: decoded(version) })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let coded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match coded.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
