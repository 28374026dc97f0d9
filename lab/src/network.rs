//! Namespaces of the lab: service, clients and attacker, joined by a router.
//!
//! Both ends of each veth pair are made inside the namespaces, so the addresses need not be
//! unique on the host and nothing of the host's network changes.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    thread,
};

use crate::error::{At, Error, Result};

/// A place in the lab with a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    Service,
    Clients,
    Attacker,
}

impl Site {
    pub const ALL: [Self; 3] = [Self::Service, Self::Clients, Self::Attacker];

    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Clients => "clients",
            Self::Attacker => "attacker",
        }
    }

    fn subnet(self) -> u8 {
        match self {
            Self::Service => 1,
            Self::Clients => 2,
            Self::Attacker => 3,
        }
    }

    /// The site's address, in a /24 of its own behind the router (`.1`).
    pub fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet(), 10)
    }

    /// The site's address, in a /64 of its own behind the router (`::1`).
    pub fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x77, u16::from(self.subnet()), 0, 0, 0, 0, 0x10)
    }
}

pub(crate) fn namespace(lab: &str, place: &str) -> String {
    format!("{lab}.{place}")
}

pub(crate) fn namespace_path(lab: &str, place: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(namespace(lab, place))
}

/// Makes the namespaces, the veth pairs, addresses and routes.
pub(crate) fn create(lab: &str) -> Result<()> {
    let router = namespace(lab, "router");
    ip(&["netns", "add", &router])?;
    ip(&["-n", &router, "link", "set", "lo", "up"])?;
    forward(lab)?;
    for site in Site::ALL {
        let space = namespace(lab, site.name());
        let net = site.subnet();
        ip(&["netns", "add", &space])?;
        #[rustfmt::skip]
        ip(&["-n", &router, "link", "add", site.name(), "type", "veth",
             "peer", "name", "eth0", "netns", &space])?;
        let ends = [(&router, site.name(), "1"), (&space, "eth0", "10")];
        for (space, device, host) in ends {
            let v4 = format!("10.77.{net}.{host}/24");
            let v6 = format!("fd00:77:{net}::{host}/64");
            ip(&["-n", space, "addr", "add", &v4, "dev", device])?;
            // No duplicate address detection: the address must work at once.
            ip(&["-n", space, "addr", "add", &v6, "dev", device, "nodad"])?;
            ip(&["-n", space, "link", "set", device, "up"])?;
        }
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        let (v4, v6) = (format!("10.77.{net}.1"), format!("fd00:77:{net}::1"));
        ip(&["-n", &space, "route", "add", "default", "via", &v4])?;
        ip(&["-n", &space, "-6", "route", "add", "default", "via", &v6])?;
    }
    Ok(())
}

/// Removes the namespaces of a lab; absent ones are fine.
pub(crate) fn remove(lab: &str) -> Result<()> {
    for place in ["service", "clients", "attacker", "router"] {
        if namespace_path(lab, place).exists() {
            ip(&["netns", "del", &namespace(lab, place)])?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|_| Error::Missing("ip (package iproute2)".into()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: format!("ip {}", arguments.join(" ")),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Turns on forwarding in the router, by a thread that enters it: `/proc/sys/net` shows the
/// namespace of the thread that opens it.
fn forward(lab: &str) -> Result<()> {
    let path = namespace_path(lab, "router");
    let file = File::open(&path).at("open", &path)?;
    let write = move || {
        // SAFETY: the descriptor is open for as long as `file` lives; only this thread moves.
        if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error()).at("enter", path);
        }
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{key}");
            fs::write(&path, "1").at("write", path)?;
        }
        Ok(())
    };
    thread::scope(|scope| match scope.spawn(write).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
