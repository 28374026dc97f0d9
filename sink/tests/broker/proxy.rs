//! A TCP proxy that a test cuts: it passes, swallows, resets, and is away.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Line {
    Passes,
    /// Whoever sends is told that it arrived, and it arrives nowhere: half open, both ways.
    Swallows,
    /// The broker gets everything, and its answers don't come back.
    SwallowsAnswers,
    /// Each connection is reset as it is made.
    Away,
}

pub struct Proxy {
    line: Arc<AtomicU8>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Listens at `told` and leads to `own`; its threads end with the test's process.
    pub fn start(own: &str, told: &str, line: Line) -> Self {
        let listener = TcpListener::bind(told).unwrap();
        let proxy = Self { line: Arc::new(AtomicU8::new(line as u8)), connections: Arc::default() };
        let (line, connections) = (Arc::clone(&proxy.line), Arc::clone(&proxy.connections));
        let own = own.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let is_away = line.load(Ordering::SeqCst) == Line::Away as u8;
                let Some(broker) = (!is_away).then(|| TcpStream::connect(&own).ok()).flatten()
                else {
                    reset(&client);
                    continue;
                };
                let both = [&client, &broker].map(|one| one.try_clone().unwrap());
                connections.lock().unwrap().extend(both);
                let (from, to) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                let swallowing = [Line::Swallows, Line::SwallowsAnswers];
                pass(from, to, &line, &swallowing[..1]);
                pass(broker, client, &line, &swallowing);
            }
        });
        proxy
    }

    /// Changes what becomes of bytes; connections of which some were swallowed can't go on, and are
    /// reset first.
    pub fn set(&self, line: Line) {
        if matches!(line, Line::Passes | Line::Away) {
            self.line.store(Line::Away as u8, Ordering::SeqCst);
            self.connections.lock().unwrap().drain(..).for_each(|one| reset(&one));
        }
        self.line.store(line as u8, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, line: &Arc<AtomicU8>, swallowing: &[Line]) {
    let (line, swallowing) = (Arc::clone(line), swallowing.to_vec());
    thread::spawn(move || {
        let mut bytes = [0; 16384];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let now = line.load(Ordering::SeqCst);
            let is_swallowed = swallowing.iter().any(|one| *one as u8 == now);
            if !is_swallowed && to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Sends an RST at once, whoever else holds the socket.
fn reset(socket: &TcpStream) {
    let nobody =
        libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the descriptor is open, the address is as long as it is said to be.
    unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) };
}
