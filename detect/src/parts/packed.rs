//! Windows as bytes.

use hedgerow_features::{COLUMNS, Window};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Two bits for each column: it is zero, unavailable, or follows.
const ZERO: u8 = 0;
const UNAVAILABLE: u8 = 1;
const FOLLOWS: u8 = 2;

/// A window's values: most are zero or unavailable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Packed(ByteBuf);

impl Packed {
    pub fn of(window: &Window) -> Self {
        let mut bytes = vec![0; window.values.len().div_ceil(4)];
        for (column, value) in window.values.iter().enumerate() {
            let what = match value {
                value if value.is_nan() => UNAVAILABLE,
                value if value.to_bits() == 0 => ZERO,
                _ => FOLLOWS,
            };
            bytes[column / 4] |= what << (2 * (column % 4));
            if what == FOLLOWS {
                bytes.extend(value.to_le_bytes());
            }
        }
        Self(ByteBuf::from(bytes))
    }

    /// The values; what isn't there of a file that was changed is unavailable.
    pub fn values(&self) -> Box<[f64]> {
        let bytes = &self.0;
        let mut following = bytes.get(COLUMNS.len().div_ceil(4)..).unwrap_or(&[]).chunks_exact(8);
        let value = |column: usize| {
            let what = bytes.get(column / 4).copied().unwrap_or(0x55) >> (2 * (column % 4)) & 3;
            match what {
                ZERO => 0.0,
                FOLLOWS => {
                    let next = following.next().and_then(|bytes| bytes.try_into().ok());
                    next.map_or(f64::NAN, f64::from_le_bytes)
                }
                _ => f64::NAN,
            }
        };
        (0..COLUMNS.len()).map(value).collect()
    }
}
