//! Splitting work over rayon's pool, as linfa does. What asks for one thread starts no pool.

/// Runs `work(start, part)` over near-equal parts of `items`, one task a part; `granule`
/// items stay together and a part is never smaller than `least`. The last part runs on the caller.
pub(crate) fn for_each_part<T: Send>(
    items: &mut [T],
    n_threads: usize,
    granule: usize,
    least: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let parts = n_threads.min(items.len() / least.max(1)).max(1);
    let per_part = items.len().div_ceil(parts).next_multiple_of(granule.max(1));
    if parts == 1 || per_part >= items.len() {
        work(0, items);
        return;
    }
    rayon::scope(|scope| {
        let work = &work;
        let mut rest = items;
        let mut start = 0;
        while rest.len() > per_part {
            let (part, tail) = rest.split_at_mut(per_part);
            rest = tail;
            scope.spawn(move |_| work(start, part));
            start += per_part;
        }
        work(start, rest);
    });
}
