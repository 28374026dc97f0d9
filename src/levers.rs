//! What can be shed, the first first. What the kernel sees of processes, connections, rights and whatever else a
//! denial may rest on is not among it.

use hedgerow_probe::Shed;

/// One thing that can be done without for a while.
#[derive(Debug)]
pub struct Lever {
    /// In `status` and metrics.
    pub name: &'static str,
    /// What is not seen then.
    pub unseen: &'static str,
}

const RECORDER: usize = 0;
const USED: usize = 1;
const USAGE: usize = 2;
const NAMES: usize = 3;
const GRAMS: usize = 4;
const READS: usize = 5;

/// The table; docs/configuration.md has it, too.
pub const LEVERS: [Lever; 6] = [
    Lever { name: "recorder", unseen: "what led to a finding in the half minute before it" },
    Lever {
        name: "used",
        unseen: "files in use, so that `hedgerow exposure` says unknown for that time",
    },
    Lever {
        name: "usage",
        unseen: "who uses how many bytes, so that `hedgerow usage` says not watched",
    },
    Lever { name: "names", unseen: "by which names peers were asked for" },
    Lever {
        name: "grams",
        unseen: "the order of calls of programs that showed nothing unseen for an hour",
    },
    Lever {
        name: "reads",
        unseen: "opens that could only read what everybody may read (by its mode and its directory's, and not in memory), and those that failed",
    },
];

/// The first levers, without which windows are whole: what learning may be spared.
pub const WHOLE: usize = GRAMS;

/// What the sensor sheds with so many levers.
pub fn shed(level: usize) -> Shed {
    Shed {
        used: level > USED,
        usage: level > USAGE,
        names: level > NAMES,
        grams: level > GRAMS,
        reads: level > READS,
    }
}

/// Files in use are not told.
pub fn sheds_used(level: usize) -> bool {
    level > USED
}

/// Bytes are not summed up.
pub fn sheds_usage(level: usize) -> bool {
    level > USAGE
}

/// Nothing is recorded.
pub fn sheds_recorder(level: usize) -> bool {
    level > RECORDER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lever_is_in_the_documentation_in_its_order() {
        let text = include_str!("../docs/configuration.md");
        let lines = LEVERS.map(|lever| format!("| `{}` | {} |\n", lever.name, lever.unseen));
        assert!(text.contains(&lines.concat()), "docs/configuration.md lacks: {}", lines.concat());
    }
}
