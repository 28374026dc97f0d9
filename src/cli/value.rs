//! Values as people write them on the command line.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// An address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Prefix {
    /// Whether both hold the same addresses.
    pub fn same(&self, other: &Self) -> bool {
        self.length == other.length && self.holds(other.address)
    }

    /// Whether the address is in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        let outside = 128 - u32::from(self.length).min(128);
        width == other_width && (own ^ other).checked_shr(outside).unwrap_or(0) == 0
    }
}

impl std::str::FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("`{address}` is not an IPv4 or IPv6 address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= most)
                .ok_or_else(|| format!("`/{length}` is not a prefix length from 0 to {most}"))?,
        };
        Ok(Self { address, length })
    }
}

/// Parses `90s`, `2m`, `12h`, `1d` or their sums (`1h30m`).
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 90s, 2m, 12h or 1d");
    let mut seconds = 0u64;
    let mut number = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            number.push(letter);
            continue;
        }
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        seconds =
            count.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() || seconds == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_read_with_units_only() {
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for wrong in ["", "2", "m", "0s", "2 m", "-1s", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let holds = |one: &str, address: &str| prefix(one).holds(address.parse().unwrap());
        assert!(holds("192.0.2.0/24", "192.0.2.77") && !holds("192.0.2.0/24", "192.0.3.1"));
        assert!(holds("192.0.2.1", "192.0.2.1") && !holds("192.0.2.1", "192.0.2.2"));
        assert!(holds("2001:db8::/32", "2001:db8::1") && !holds("::/0", "192.0.2.1"));
        assert!(holds("0.0.0.0/0", "192.0.2.1"));
        assert!(prefix("192.0.2.7/24").same(&prefix("192.0.2.0/24")));
    }

    #[test]
    fn prefixes_default_to_one_address() {
        assert_eq!("192.0.2.1".parse::<Prefix>().unwrap().length, 32);
        assert_eq!("2001:db8::/32".parse::<Prefix>().unwrap().length, 32);
        for wrong in ["192.0.2.1/33", "host", "192.0.2.1/", "/8"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }
}
