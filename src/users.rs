//! How the host calls its users.

use std::collections::HashMap;

use hedgerow_event::gate;
use hedgerow_hostfile::Reader;
use hedgerow_responder::protected::{gather, users};

/// Longest name told.
const NAME_BYTES_MAX: usize = 256;

/// By the host's own passwd(5): a container has others, whatever their numbers.
#[derive(Debug, Default)]
pub struct Users {
    names: HashMap<u32, String>,
    ids: HashMap<String, u32>,
}

impl Users {
    /// None where they can't be read.
    pub fn read(reader: &mut Reader) -> Self {
        Self::of(&gather::passwd(reader).unwrap_or_default())
    }

    pub fn of(passwd: &str) -> Self {
        let mut users = Self::default();
        for (name, uid) in users::named(passwd) {
            let told = || gate::cut(&gate::text(name), NAME_BYTES_MAX);
            users.names.entry(uid).or_insert_with(told);
            users.ids.entry(name.to_owned()).or_insert(uid);
        }
        users
    }

    pub fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(String::as_str)
    }

    /// The id of a name, or of a number as it stands.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied().or_else(|| word.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_the_first_line_of_several_and_odd_lines_are_left_out() {
        let users = Users::of(
            "root:x:0:0::/:\nodd\n:x:7:7\nweb:x:33:33:::\ntoor:x:0:0::/:\nweb:x:34:34:::\n",
        );
        assert_eq!(
            (users.name(0), users.name(33), users.name(7)),
            (Some("root"), Some("web"), None)
        );
        assert_eq!((users.id("web"), users.id("35"), users.id("odd")), (Some(33), Some(35), None));
    }
}
