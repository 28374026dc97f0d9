//! The room of a bounded queue, by whatever it is counted in.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What somebody takes of a queue's room; given back once it is dropped, used or not.
#[derive(Debug)]
pub struct Room {
    taken: Arc<AtomicUsize>,
    size: usize,
}

impl Room {
    /// None where there isn't as much, but for who is alone: he is let through, however large he is.
    pub fn take(taken: &Arc<AtomicUsize>, size: usize, most: usize) -> Option<Self> {
        let before = taken.fetch_add(size, Ordering::Relaxed);
        let room = Self { taken: Arc::clone(taken), size };
        (before == 0 || before + size <= most).then_some(room)
    }

    /// Both, given back together.
    pub fn join(mut self, mut other: Self) -> Self {
        self.size += std::mem::take(&mut other.size);
        self
    }

    pub fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_whatever_became_of_what_had_it() {
        let taken = Arc::default();
        let (first, second) = (Room::take(&taken, 3, 5), Room::take(&taken, 2, 5));
        assert!(first.is_some() && second.is_some() && Room::take(&taken, 1, 5).is_none());
        drop(first);
        assert!(Room::take(&taken, 4, 5).is_none());
        assert!(Room::take(&taken, 3, 5).is_some());
        drop(second.map(|second| second.join(Room { taken: Arc::clone(&taken), size: 0 })));
        assert!(Room::take(&taken, 6, 5).is_some(), "whoever is alone");
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }
}
