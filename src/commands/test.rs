//! `hedgerow test`: a harmless incident, shown end to end against the running daemon.

use std::{
    ffi::CString,
    io::Write,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    control::{Request, call, socket},
    exit::Failure,
};

/// A finding comes with its window's close at the latest.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a copy of `true`'s kind from memory that connects to this process over loopback, and waits
/// for the daemon to notice.
pub fn run(state: &Path, json: bool) -> anyhow::Result<()> {
    let before = call(&socket(state), &Request::Status)?;
    if before["phase"] != "scoring" {
        let left = before["seconds_left"].as_u64().unwrap_or(0);
        return Err(Failure::NoDaemon(format!(
            "the daemon is still learning and scores nothing; try again in {}",
            crate::text::seconds(left)
        ))
        .into());
    }
    let count = |status: &serde_json::Value| {
        status["alerts"].as_u64().unwrap_or(0) + status["suppressed"].as_u64().unwrap_or(0)
    };
    let started = Instant::now();
    incident()?;
    if !json {
        eprintln!(
            "Ran a program from memory that connected to 127.0.0.1; waiting for the finding."
        );
    }
    while started.elapsed() < PATIENCE {
        let now = call(&socket(state), &Request::Status)?;
        if count(&now) > count(&before) {
            let milliseconds = started.elapsed().as_millis();
            if json {
                println!("{}", serde_json::json!({ "found": true, "milliseconds": milliseconds }));
            } else {
                println!("Found after {milliseconds} ms; `hedgerow findings list --all` shows it.");
            }
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!(
        "the daemon found nothing within {} s; `hedgerow doctor` shows what this kernel can do",
        PATIENCE.as_secs()
    )
}

/// Copies this program into memory and runs it there as `hedgerow test` child.
fn incident() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let name = CString::new("hedgerow-test")?;
    // SAFETY: the name is a C string that lives through the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("can't make a file in memory");
    }
    // SAFETY: the call above returned this descriptor to us alone.
    let memory = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let shell = std::fs::read("/bin/bash").or_else(|_| std::fs::read("/bin/sh"))?;
    (&memory).write_all(&shell)?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; sleep 2");
    let mut child = Command::new(path).arg0("hedgerow-test").arg("-c").arg(script).spawn()?;
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut accepted: Option<TcpStream> = None;
    while Instant::now() < deadline && child.try_wait()?.is_none() {
        if accepted.is_none() {
            accepted = listener.accept().ok().map(|(stream, _)| stream);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(child.kill());
    child.wait()?;
    Ok(())
}
