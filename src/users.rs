//! How the host calls its users.

use std::collections::HashMap;

use hedgerow_event::gate;
use hedgerow_hostfile::{Reader, Version};
use hedgerow_responder::protected::{gather, users};

/// Longest name told.
const NAME_BYTES_MAX: usize = 256;

/// By the host's own passwd(5): a container has others, whatever their numbers.
#[derive(Debug, Default)]
pub struct Users {
    names: HashMap<u32, String>,
    ids: HashMap<String, u32>,
    /// Of the file that they are of.
    version: Option<Version>,
}

impl Users {
    pub fn read(reader: &mut Reader) -> Self {
        let mut users = Self::default();
        users.refresh(reader);
        users
    }

    /// As they are called by now: what wasn't changed is not read again. None where they can't be read.
    pub fn refresh(&mut self, reader: &mut Reader) {
        match gather::passwd(reader, self.version) {
            Ok(None) => {}
            Ok(Some((passwd, version))) => *self = Self { version, ..Self::of(&passwd) },
            Err(_) => *self = Self::default(),
        }
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
    fn what_was_not_changed_is_not_read_again() {
        let mut reader = Reader::new("users");
        let mut users = Users::read(&mut reader);
        assert_eq!(users.name(0), Some("root"));
        users.names.clear();
        users.refresh(&mut reader);
        assert_eq!(users.name(0), None);
        users.version = None;
        users.refresh(&mut reader);
        assert_eq!(users.name(0), Some("root"));
    }

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
