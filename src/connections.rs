//! Connections of a server whose clients are strangers: so many at once, each for so long. Where all
//! places are taken, a newcomer gets that of who has held one longest, so that nobody keeps others out
//! by holding on.

use std::{collections::VecDeque, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::task::JoinHandle;

/// A request line with its headers is no longer than this.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// And comes within this time.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// After the machine had no more descriptors, say.
pub const PAUSE: Duration = Duration::from_millis(100);

/// The connections of one listener, the oldest first.
#[derive(Debug)]
pub struct Connections {
    places: usize,
    longest: Duration,
    open: VecDeque<JoinHandle<()>>,
}

impl Connections {
    /// At most `places` at once, each for `longest` at most, read or not.
    pub fn new(places: usize, longest: Duration) -> Self {
        Self { places, longest, open: VecDeque::with_capacity(places) }
    }

    /// Serves one more; true where the oldest had to go for it.
    pub async fn serve<T>(&mut self, connection: impl Future<Output = T> + Send + 'static) -> bool {
        self.open.retain(|one| !one.is_finished());
        let is_full = self.open.len() >= self.places;
        if is_full && let Some(oldest) = self.open.pop_front() {
            oldest.abort();
        }
        let longest = self.longest;
        self.open.push_back(tokio::spawn(async move {
            // What became of it concerns its client alone.
            drop(tokio::time::timeout(longest, connection).await);
        }));
        // Who has asked already is answered, however many newcomers wait.
        tokio::task::yield_now().await;
        is_full
    }
}

/// How a connection speaks: one request, one answer.
pub fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX);
    builder
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn who_came_first_makes_room_and_who_takes_too_long_is_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut connections = Connections::new(2, Duration::from_secs(1));
            let mut ends = Vec::new();
            let mut full = Vec::new();
            for _ in 0..3 {
                // Held by the connection: closed once that has gone.
                let (held, gone) = oneshot::channel::<()>();
                full.push(
                    connections
                        .serve(async move {
                            let _held = held;
                            std::future::pending::<()>().await;
                        })
                        .await,
                );
                ends.push(gone);
            }
            assert_eq!(full, [false, false, true]);
            let mut ends = ends.into_iter();
            assert!(ends.next().unwrap().await.is_err(), "the oldest is cut at once");
            let mut rest: Vec<_> = ends.collect();
            assert!(rest.iter_mut().all(|end| end.try_recv() != Err(closed())), "the others go on");
            for end in rest {
                assert!(end.await.is_err(), "until their time is over");
            }
            assert!(!connections.serve(async {}).await, "then there is room again");
        });
    }

    fn closed() -> oneshot::error::TryRecvError {
        oneshot::error::TryRecvError::Closed
    }
}
