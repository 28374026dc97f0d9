//! The flow hooks: which of them this kernel gets, where they are attached, and the records of
//! open flows when a window closes.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use hedgerow_bpf::sensor::{OpenSensorProgs, SensorMaps, SensorProgs};
use libbpf_rs::{Iter, Link};

use crate::{
    hooks::{Attached, Hook},
    support::features,
};

/// How the process that uses a socket is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseHook {
    /// `tp_btf/sock_send_length` and `sock_recv_length` (6.3 and newer).
    Tracepoint,
    /// `fentry` on `inet_sendmsg` and its kin.
    Fentry,
    /// Neither loads: a socket stays its maker's, an accepted one its listener's.
    None,
}

impl UseHook {
    /// The first that loads.
    pub fn detect() -> Self {
        if features::socket_use_tracepoints().is_ok() {
            Self::Tracepoint
        } else if features::socket_use_fentry().is_ok() {
            Self::Fentry
        } else {
            Self::None
        }
    }
}

/// Leaves those programs out of the load that this kernel can't take.
pub fn select(programs: &mut OpenSensorProgs<'_>, hook: UseHook) {
    let tracepoint = hook == UseHook::Tracepoint;
    programs.on_flow_send.set_autoload(tracepoint);
    programs.on_flow_recv.set_autoload(tracepoint);
    let fentry = hook == UseHook::Fentry;
    programs.on_flow_inet_sendmsg.set_autoload(fentry);
    programs.on_flow_inet6_sendmsg.set_autoload(fentry);
    programs.on_flow_inet_recvmsg.set_autoload(fentry);
    programs.on_flow_inet6_recvmsg.set_autoload(fentry);
}

/// The attached flow hooks; dropping it detaches them.
#[derive(Debug)]
pub struct Flows {
    hooks: Vec<Attached>,
    sockets: Link,
    peers: Link,
    buffer: Vec<u8>,
}

impl Flows {
    /// Attaches to `cgroup_root`, the root of the cgroup v2 hierarchy, beside what others have
    /// attached there.
    pub fn attach(
        programs: &SensorProgs<'_>,
        maps: &SensorMaps<'_>,
        hook: UseHook,
        cgroup_root: BorrowedFd<'_>,
    ) -> libbpf_rs::Result<Self> {
        let root = cgroup_root.as_raw_fd();
        let mut hooks = Vec::new();
        for (hook, program) in [
            (Hook::Flow, &programs.on_flow_create),
            (Hook::Flow, &programs.on_flow_release),
            (Hook::Packet, &programs.on_flow_packet_in),
            (Hook::Packet, &programs.on_flow_packet_out),
        ] {
            hooks.push(Attached::new(hook, program, program.attach_cgroup(root)?));
        }
        let state = &programs.on_flow_tcp_state;
        hooks.push(Attached::new(Hook::Flow, state, state.attach_trace()?));
        let uses = match hook {
            UseHook::Tracepoint => vec![&programs.on_flow_send, &programs.on_flow_recv],
            UseHook::Fentry => vec![
                &programs.on_flow_inet_sendmsg,
                &programs.on_flow_inet6_sendmsg,
                &programs.on_flow_inet_recvmsg,
                &programs.on_flow_inet6_recvmsg,
            ],
            UseHook::None => Vec::new(),
        };
        for program in uses {
            hooks.push(Attached::new(Hook::Flow, program, program.attach_trace()?));
        }
        Ok(Self {
            hooks,
            sockets: programs.on_flow_interim.attach_iter(maps.flows.as_fd())?,
            peers: programs.on_flow_peer_interim.attach_iter(maps.flow_peers.as_fd())?,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Detaches the hooks; open flows can still be read.
    pub fn detach(&mut self) {
        self.hooks.clear();
    }

    /// The attached hooks.
    pub fn hooks(&self) -> &[Attached] {
        &self.hooks
    }

    /// Hands over the records (`wire_flow`, one after the other) of what every open flow did
    /// since its last one, in the epoch that `control.closing` names.
    pub fn interim(&mut self, mut records: impl FnMut(&[u8])) -> io::Result<()> {
        for link in [&self.sockets, &self.peers] {
            let mut iterator = Iter::new(link).map_err(io::Error::other)?;
            loop {
                match iterator.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(size) => records(&self.buffer[..size]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The kernel asks to come again, after many sockets without a record.
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
