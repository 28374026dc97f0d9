//! Who has most makes room: so that no owner of a bounded table fills it for the others.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// Of a full table an eighth makes room at once, so that a flood pays for each look through it.
pub fn room(limit: usize) -> usize {
    limit.div_ceil(8)
}

/// The items that have to go for `room` others: one after the other of the owner who has most by then,
/// of his the one of least rank. Where several have as many it is the least of theirs, whatever their
/// names; the order in which items are named decides nothing.
pub fn make_room<O: Ord, R: Ord, K: Ord>(
    items: impl IntoIterator<Item = (O, R, K)>,
    room: usize,
) -> Vec<K> {
    let mut owners: BTreeMap<O, Vec<Reverse<(R, K)>>> = BTreeMap::new();
    for (owner, rank, key) in items {
        owners.entry(owner).or_default().push(Reverse((rank, key)));
    }
    // How many an owner has besides his least, and that.
    let mut most = BinaryHeap::new();
    let mut owned: Vec<BinaryHeap<_>> = owners.into_values().map(BinaryHeap::from).collect();
    for (owner, own) in owned.iter_mut().enumerate() {
        most.extend(own.pop().map(|least| (own.len(), least, owner)));
    }
    let mut gone = Vec::new();
    while gone.len() < room
        && let Some((_, Reverse((_, key)), owner)) = most.pop()
    {
        gone.push(key);
        let own = &mut owned[owner];
        most.extend(own.pop().map(|least| (own.len(), least, owner)));
    }
    gone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking at all that is left each time.
    fn looked_for(mut items: Vec<(u8, u8, usize)>, room: usize) -> Vec<usize> {
        let mut gone = Vec::new();
        while gone.len() < room && !items.is_empty() {
            let count = |owner: u8| items.iter().filter(|item| item.0 == owner).count();
            let most = items.iter().map(|item| count(item.0)).max();
            let of_most = items.iter().filter(|item| Some(count(item.0)) == most);
            let least = of_most.min_by_key(|(_, rank, key)| (rank, key)).map(|item| item.2);
            gone.extend(least);
            items.retain(|item| Some(item.2) != least);
        }
        gone
    }

    #[test]
    fn nobody_makes_room_who_has_less_than_another_and_the_order_decides_nothing() {
        let items = proptest::collection::vec((0..6u8, any::<u8>()), 0..60);
        proptest!(|(items in items, room in 0..70usize)| {
            let keyed = items.into_iter().zip(0..).map(|((owner, rank), key)| (owner, rank, key));
            let mut items: Vec<(u8, u8, usize)> = keyed.collect();
            let gone = looked_for(items.clone(), room);
            prop_assert_eq!(&make_room(items.clone(), room), &gone);
            items.reverse();
            prop_assert_eq!(&make_room(items.clone(), room), &gone);
            // Nor do names.
            let renamed = items.into_iter().map(|(owner, rank, key)| (u8::MAX - owner, rank, key));
            prop_assert_eq!(make_room(renamed, room), gone);
        });
    }
}
