//! What we hold of memory: our pages and our BPF maps, each page once.

use std::{collections::HashMap, fs, io};

/// A mapping up to here is a ring's position or the control word.
const PAGE_KIB: u64 = 4;

/// Rings are mapped, so that their pages are resident, too; profiles are mapped and held by no descriptor.
pub fn used() -> io::Result<u64> {
    let (resident, mapped, profiles) = pages(&fs::read_to_string("/proc/self/smaps")?);
    let mut maps = HashMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // One that was closed meanwhile holds nothing.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        maps.extend(map(&text));
    }
    Ok((resident.saturating_sub(mapped) + profiles) * 1024 + maps.into_values().sum::<u64>())
}

/// KiB: all that is resident, of it BPF maps, and how large those are that are written to.
fn pages(smaps: &str) -> (u64, u64, u64) {
    let (mut resident, mut mapped, mut profiles) = (0, 0, 0);
    let (mut of_bpf, mut writable) = (false, false);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        let number = || second.parse::<u64>().unwrap_or(0);
        match first {
            "Rss:" => {
                resident += number();
                mapped += if of_bpf { number() } else { 0 };
            }
            "Size:" if of_bpf && writable && number() > PAGE_KIB => profiles += number(),
            _ if first.ends_with(':') => {}
            _ => {
                of_bpf = line.ends_with("anon_inode:bpf-map");
                writable = second.contains('w');
            }
        }
    }
    (resident, mapped, profiles)
}

/// The number of a BPF map, and what it holds.
fn map(fdinfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    Some((field("map_id:")?, field("memlock:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_counted_once() {
        let smaps = "\
55d0-55e0 r-xp 00000000 08:01 1 /usr/bin/hedgerow\nSize:     9000 kB\nRss:      5000 kB\nVmFlags: rd ex\n\
7f00-7f10 r--s 00001000 00:0e 9 anon_inode:bpf-map\nSize:     8196 kB\nRss:      4000 kB\n\
7f20-7f30 rw-s 00000000 00:0e 9 anon_inode:bpf-map\nSize:        4 kB\nRss:         4 kB\n\
7f40-7f90 rw-s 00000000 00:0e 9 anon_inode:bpf-map\nSize:    16000 kB\nRss:       100 kB\n";
        assert_eq!(pages(smaps), (9104, 4104, 16000));
        assert_eq!(map("map_type:\t27\nmemlock:\t4096\nmap_id:\t7\n"), Some((7, 4096)));
        assert_eq!(map("link_type:\t1\nprog_id:\t7\n"), None);
        assert!(used().is_ok_and(|bytes| bytes > 1 << 20));
    }
}
