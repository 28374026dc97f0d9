//! A map that, when full, forgets what came first.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

#[derive(Debug, Clone)]
pub struct Bounded<K, V> {
    limit: usize,
    items: HashMap<K, V>,
    /// Keys as they came; some of them are gone already.
    order: VecDeque<K>,
    /// Items that had to go for others.
    pub evicted: u64,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    pub fn new(limit: usize) -> Self {
        Self { limit, items: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    pub fn get(&self, key: K) -> Option<&V> {
        self.items.get(&key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.items.insert(key, value).is_none() {
            self.order.push_back(key);
            self.make_room();
        }
    }

    /// The item, made where there is none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.items.contains_key(&key) {
            self.insert(key, V::default());
        }
        self.items.entry(key).or_default()
    }

    pub fn remove(&mut self, key: K) {
        self.items.remove(&key);
        if self.order.len() > 2 * self.limit {
            self.order.retain(|key| self.items.contains_key(key));
        }
    }

    fn make_room(&mut self) {
        while self.items.len() > self.limit {
            let Some(oldest) = self.order.pop_front() else { return };
            self.evicted += u64::from(self.items.remove(&oldest).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_forgets_what_came_first() {
        let mut map = Bounded::new(2);
        for key in 0..3 {
            map.insert(key, key);
        }
        assert_eq!(
            (map.get(0), map.get(1), map.get(2), map.evicted),
            (None, Some(&1), Some(&2), 1)
        );
    }

    #[test]
    fn keys_that_went_by_themselves_take_no_room() {
        let mut map = Bounded::new(2);
        for key in 0..100 {
            map.insert(key, key);
            map.remove(key);
        }
        assert!(map.order.len() <= 5 && map.evicted == 0);
    }
}
