//! What is not looked at for a while, so that it costs less.

use hedgerow_bpf::wire;

/// What the kernel's programs spare themselves. Processes, rows, flows and what is evidence are not among it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shed {
    /// Files in use.
    pub used: bool,
    /// Bytes by whose socket they pass.
    pub usage: bool,
    /// By which names peers were asked for.
    pub names: bool,
    /// The order of calls of programs of which nothing unseen was seen for long.
    pub grams: bool,
    /// Opens that could only read what everybody may read, and failed ones.
    pub reads: bool,
}

impl Shed {
    pub(crate) fn bits(self) -> u32 {
        let bits = [
            (self.used, wire::WIRE_SHED_USED),
            (self.usage, wire::WIRE_SHED_USAGE),
            (self.names, wire::WIRE_SHED_NAMES),
            (self.grams, wire::WIRE_SHED_GRAMS),
            (self.reads, wire::WIRE_SHED_READS),
        ];
        bits.into_iter().filter(|(shed, _)| *shed).map(|(_, bit)| bit).sum()
    }

    /// Windows lack something of what they are learned by.
    pub(crate) fn thins_windows(bits: u32) -> bool {
        bits & (wire::WIRE_SHED_GRAMS | wire::WIRE_SHED_READS) != 0
    }
}
