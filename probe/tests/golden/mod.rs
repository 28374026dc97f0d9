//! One record of every kind, byte by byte, as a kernel of either byte order writes it.
#![allow(clippy::unwrap_used, dead_code)]

/// How the kernel that wrote a record stores integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    /// Of the machine that the tests run on.
    pub const OWN: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };
    pub const OTHER: Self = if cfg!(target_endian = "little") { Self::Big } else { Self::Little };

    fn put<const N: usize>(self, little: [u8; N]) -> [u8; N] {
        let mut bytes = little;
        if self == Self::Big {
            bytes.reverse();
        }
        bytes
    }

    fn halves(self, values: impl IntoIterator<Item = u16>) -> Vec<u8> {
        values.into_iter().flat_map(|value| self.put(value.to_le_bytes())).collect()
    }

    fn words(self, values: impl IntoIterator<Item = u32>) -> Vec<u8> {
        values.into_iter().flat_map(|value| self.put(value.to_le_bytes())).collect()
    }

    fn longs(self, values: impl IntoIterator<Item = u64>) -> Vec<u8> {
        values.into_iter().flat_map(|value| self.put(value.to_le_bytes())).collect()
    }

    /// kind, size, epoch 7, time 0x1122334455667788
    pub fn header(self, kind: u16, size: usize) -> Vec<u8> {
        let size = u16::try_from(size).unwrap();
        [self.halves([kind, size]), self.words([7]), self.longs([0x1122_3344_5566_7788])].concat()
    }

    /// start 1, cgroup 2, program 3, tgid 4, tid 5, slot 6, flags 0; root: start 11, service 12,
    /// tgid 13, login uid 1000
    fn actor(self) -> Vec<u8> {
        let root = [self.longs([11, 12]), self.words([13, 1000])].concat();
        [self.longs(1..=3), self.words([4, 5, 6, 0]), root].concat()
    }

    pub fn row(self) -> Vec<u8> {
        let reason = self.words([1, 0]);
        let counts = self.words((0..64).chain([100, 101, 102, 103, 104, 105, 106, 107, 108, 0]));
        [self.header(1, 384), self.actor(), reason, counts].concat()
    }

    pub fn exec(self) -> Vec<u8> {
        let fixed = [
            self.longs([77, 78, 88]), // previous program, profile, parent's start
            self.words([9, 10, 11, 12, u32::MAX, 25]), // parent, old tid, uids, login uid, flags
            self.longs([0x0fe0_0002, 1234, 55]), // device, inode, ctime
            self.words([3, 0o100_755, 0, 0o40_755, 0, 1]), // generation, modes, owners, links
            self.halves([7, 4, 8, 0]),
        ]
        .concat();
        let strings = b"/bin/sh./x./x\0-v -1".to_vec();
        let size = 16 + 64 + fixed.len() + strings.len();
        [self.header(2, size), self.actor(), fixed, strings].concat()
    }

    pub fn fork(self) -> Vec<u8> {
        [self.header(3, 96), self.actor(), self.longs([99]), self.words([40, 50])].concat()
    }

    pub fn exit(self) -> Vec<u8> {
        [self.header(4, 88), self.actor(), self.words([0x0000_0300, 1])].concat()
    }

    pub fn call(self) -> Vec<u8> {
        let fixed = [
            self.longs([(-2i64).cast_unsigned(), 1, 2, 3, 4, 5, 6]),
            self.words([257]),
            self.halves([4]),
            vec![9, 0],
            self.halves([4, 0, 0, 0]),
        ]
        .concat();
        [self.header(5, 156), self.actor(), fixed, b"/a/b".to_vec()].concat()
    }

    pub fn signal(self) -> Vec<u8> {
        [self.header(6, 88), self.actor(), self.words([8, 200])].concat()
    }

    pub fn raw(self) -> Vec<u8> {
        let fixed = [
            self.longs([1, 2, 3, (-38i64).cast_unsigned()]),
            self.words([4, 5, 1000]),
            self.halves([49, 6]),
        ];
        [self.header(7, 64), fixed.concat()].concat()
    }

    /// 1,000,000 bytes out, from port 43210 of `addresses[0]` to port 443 of `addresses[1]`: the
    /// addresses in network order whatever the kernel's own, the ports in the kernel's own.
    pub fn flow(self, addresses: [[u8; 16]; 2]) -> Vec<u8> {
        let fixed = [
            self.longs([0x0100_0000_0000_0009, 1_000_000, 255, 16, 17]),
            addresses.concat(),
            self.halves([43210, 443]),
            vec![2, 6, 0, 0],                        // final, TCP, outbound
            self.words([5, 1000, 4_026_531_992, 0]), // retransmits, RTT, netns
        ];
        [self.header(8, 176), self.actor(), fixed.concat()].concat()
    }

    pub fn cgroup(self) -> Vec<u8> {
        let fixed = [self.longs([321]), self.words([1]), self.halves([9, 0])].concat();
        [self.header(9, 41), fixed, b"/a.slice/".to_vec()].concat()
    }

    pub fn process(self) -> Vec<u8> {
        [self.header(10, 80), self.actor()].concat()
    }

    /// /lib/a.so, read, its head cut
    pub fn used(self) -> Vec<u8> {
        let file =
            [self.longs([0x0fe0_0002, 1234, 55]), self.words([3, 0o100_755, 0, 0o40_755, 0, 1])]
                .concat();
        let fixed = [self.actor(), file, self.halves([3, 9]), self.words([0])].concat();
        [self.header(11, 145), fixed, b"/lib/a.so".to_vec()].concat()
    }

    /// One of each kind.
    pub fn all(self) -> Vec<Vec<u8>> {
        let v4 = |last| {
            let mut address = [0; 16];
            address[10..12].fill(0xff);
            address[12..].copy_from_slice(&[10, 1, 2, last]);
            address
        };
        vec![
            self.row(),
            self.exec(),
            self.fork(),
            self.exit(),
            self.call(),
            self.signal(),
            self.raw(),
            self.flow([v4(3), v4(4)]),
            self.cgroup(),
            self.process(),
            self.used(),
        ]
    }
}
