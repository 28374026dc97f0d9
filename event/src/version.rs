//! Order of Debian's version numbers: `[epoch:]upstream[-revision]`.

use std::cmp::Ordering;

/// As `dpkg --compare-versions` orders them.
pub fn compare(left: &str, right: &str) -> Ordering {
    let ((left_epoch, left), (right_epoch, right)) = (epoch(left), epoch(right));
    let ((left, left_revision), (right, right_revision)) = (revision(left), revision(right));
    let upstream = || part(left.as_bytes(), right.as_bytes());
    let revisions = || part(left_revision.as_bytes(), right_revision.as_bytes());
    left_epoch.cmp(&right_epoch).then_with(upstream).then_with(revisions)
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

/// Runs of other characters and runs of digits, by turns.
fn part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let words = |text: &[u8]| text.iter().take_while(|c| !c.is_ascii_digit()).count();
        let ((word, after), (other, other_after)) =
            (left.split_at(words(left)), right.split_at(words(right)));
        for index in 0..word.len().max(other.len()) {
            let order = weight(word.get(index)).cmp(&weight(other.get(index)));
            if order != Ordering::Equal {
                return order;
            }
        }
        let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
        let (number, other_number);
        (number, left) = after.split_at(digits(after));
        (other_number, right) = other_after.split_at(digits(other_after));
        let order = magnitude(number).cmp(&magnitude(other_number));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// `~` sorts before the end, letters before what is no letter.
fn weight(character: Option<&u8>) -> i32 {
    match character {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

/// Longer numbers are larger once leading zeros are gone.
fn magnitude(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|c| **c == b'0').count();
    let digits = &digits[zeros..];
    (digits.len(), digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-1+deb12u2",
            "1.0-1.1",
            "1.0-2",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.2-1",
            "1.10-1",
            "2024010100000000000000000-1",
            "1:0.1-1",
        ];
        for (index, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{left} {right}");
            }
        }
        assert_eq!(compare("1.0-1", "1.00-1"), Ordering::Equal);
        assert_eq!(compare("0:1-1", "1-1"), Ordering::Equal);
    }
}
