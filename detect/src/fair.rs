//! Who has most makes room: so that no owner of a bounded table fills it for the others.

use std::collections::{BTreeMap, BinaryHeap};

/// Of a full table an eighth makes room at once, so that a flood pays for each look through it.
pub fn room(limit: usize) -> usize {
    limit.div_ceil(8)
}

/// The items that have to go for `room` others: one after the other of the owner who has most by then,
/// of his the one of least rank. The order in which they are named decides nothing.
pub fn make_room<O: Ord, R: Ord, K: Ord>(
    items: impl IntoIterator<Item = (O, R, K)>,
    room: usize,
) -> Vec<K> {
    let mut owners: BTreeMap<O, Vec<(R, K)>> = BTreeMap::new();
    for (owner, rank, key) in items {
        owners.entry(owner).or_default().push((rank, key));
    }
    let mut owned: Vec<Vec<(R, K)>> = owners.into_values().collect();
    owned.iter_mut().for_each(|own| own.sort_unstable_by(|a, b| b.cmp(a)));
    let mut most: BinaryHeap<(usize, usize)> =
        owned.iter().enumerate().map(|(owner, own)| (own.len(), owner)).collect();
    let mut gone = Vec::new();
    while gone.len() < room
        && let Some((_, owner)) = most.pop()
    {
        let Some((_, key)) = owned[owner].pop() else { break };
        most.push((owned[owner].len(), owner));
        gone.push(key);
    }
    gone
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

    use super::*;

    #[test]
    fn nobody_makes_room_who_has_less_than_another_and_the_order_decides_nothing() {
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..500 {
            let owners = rng.gen_range(1..6u8);
            let mut items: Vec<(u8, u8, usize)> = (0..rng.gen_range(0..60))
                .map(|key| {
                    (rng.gen_range(0..owners).min(rng.gen_range(0..owners)), rng.r#gen(), key)
                })
                .collect();
            let wanted = rng.gen_range(0..70);
            let gone = make_room(items.clone(), wanted);
            assert_eq!(gone.len(), wanted.min(items.len()));
            let count = |owner: u8, of: &dyn Fn(&usize) -> bool| {
                items.iter().filter(|item| item.0 == owner && of(&item.2)).count()
            };
            let left = |owner| count(owner, &|key| !gone.contains(key));
            let most = (0..owners).map(left).max().unwrap_or_default();
            for owner in 0..owners {
                let lost = count(owner, &|key| gone.contains(key));
                assert!(lost == 0 || left(owner) + 1 >= most, "he had less than another");
            }
            // Of one owner those of least rank.
            for kept in items.iter().filter(|item| !gone.contains(&item.2)) {
                let worse = |item: &&(u8, u8, usize)| gone.contains(&item.2) && item.0 == kept.0;
                assert!(
                    items.iter().filter(worse).all(|item| (item.1, item.2) <= (kept.1, kept.2))
                );
            }
            items.shuffle(&mut rng);
            assert_eq!(make_room(items, wanted), gone);
        }
    }
}
