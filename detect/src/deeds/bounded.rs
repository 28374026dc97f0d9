//! A map that, when full, takes room from who has most in it: of his what weighs least, and of that what
//! was used longest ago.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use hedgerow_features::fair;

#[derive(Debug, Clone)]
pub struct Bounded<O, K, V> {
    limit: usize,
    weigh: fn(&V) -> u64,
    items: HashMap<K, Item<O, V>>,
    uses: u64,
    /// Items that had to go for others.
    pub evicted: u64,
}

#[derive(Debug, Clone)]
struct Item<O, V> {
    /// Who brought it first.
    owner: O,
    used: u64,
    value: V,
}

impl<O: Copy + Ord, K: Copy + Eq + Hash + Ord, V> Bounded<O, K, V> {
    pub fn new(limit: usize, weigh: fn(&V) -> u64) -> Self {
        Self { limit, weigh, items: HashMap::new(), uses: 0, evicted: 0 }
    }

    pub fn get(&self, key: K) -> Option<&V> {
        self.items.get(&key).map(|item| &item.value)
    }

    pub fn contains(&self, key: K) -> bool {
        self.items.contains_key(&key)
    }

    /// The item, as used just now.
    pub fn used(&mut self, key: K) -> Option<&mut V> {
        let item = self.items.get_mut(&key)?;
        self.uses += 1;
        item.used = self.uses;
        Some(&mut item.value)
    }

    pub fn insert(&mut self, owner: O, key: K, value: V) {
        self.room_for(key);
        self.uses += 1;
        match self.items.entry(key) {
            Entry::Occupied(mut known) => {
                known.get_mut().value = value;
                known.get_mut().used = self.uses;
            }
            Entry::Vacant(place) => {
                place.insert(Item { owner, used: self.uses, value });
            }
        }
    }

    /// The item, made where there is none.
    pub fn entry(&mut self, owner: O, key: K) -> &mut V
    where
        V: Default,
    {
        self.room_for(key);
        self.uses += 1;
        let made = || Item { owner, used: 0, value: V::default() };
        let item = self.items.entry(key).or_insert_with(made);
        item.used = self.uses;
        &mut item.value
    }

    pub fn remove(&mut self, key: K) {
        self.items.remove(&key);
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.items.iter().map(|(key, item)| (*key, &item.value))
    }

    fn room_for(&mut self, key: K) {
        if self.items.len() < self.limit || self.items.contains_key(&key) {
            return;
        }
        let rank = |item: &Item<O, V>| ((self.weigh)(&item.value), item.used);
        let all = self.items.iter().map(|(key, item)| (item.owner, rank(item), *key));
        let gone = fair::make_room(all, fair::room(self.limit));
        self.evicted += gone.len() as u64;
        gone.iter().for_each(|key| drop(self.items.remove(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_takes_room_from_who_has_most() {
        let mut map: Bounded<u8, u32, u64> = Bounded::new(64, |value| *value);
        map.insert(1, 1000, 0);
        map.insert(2, 2000, 9);
        for key in 0..500 {
            map.insert(2, key, 0);
            map.used(7);
        }
        assert!(map.items.len() <= 64 && map.evicted >= 500 - 64);
        assert!(map.contains(1000), "another's");
        assert!(map.contains(2000), "it weighs more");
        assert!(map.contains(7) && map.contains(499) && !map.contains(8), "used lately");
    }

    #[test]
    fn keys_that_went_by_themselves_take_no_room() {
        let mut map: Bounded<u8, u32, u64> = Bounded::new(2, |_| 0);
        for key in 0..100 {
            map.insert(1, key, 0);
            map.remove(key);
        }
        assert!(map.items.is_empty() && map.evicted == 0);
    }
}
