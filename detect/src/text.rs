//! Objects in a binary section: as JSON, since addresses in tagged enums are read as text only.

use std::collections::BTreeSet;

use hedgerow_event::Object;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

pub fn serialize<S: Serializer>(
    objects: &BTreeSet<Object>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let texts: Result<Vec<String>, _> = objects.iter().map(serde_json::to_string).collect();
    texts.map_err(ser::Error::custom)?.serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeSet<Object>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| serde_json::from_str(text).map_err(de::Error::custom)).collect()
}
