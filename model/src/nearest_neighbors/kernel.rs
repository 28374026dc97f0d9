//! Squared distances from one row to many reference rows, sixteen at a time.

/// References of a panel: a vector register of AVX-512, four of SSE.
pub(super) const PANEL: usize = 16;

/// Largest magnitude of a scaled value, so that squares and their sums stay finite in f32.
pub(super) const LARGEST: f32 = 1e15;

/// The reference nearest to `row` among `panels`, as (index, squared distance). A panel holds
/// sixteen references column by column: `panels[(panel * n_columns + column) * 16 + reference]`.
///
/// Each reference's sum runs over the columns in order, whatever the vector width, so all
/// instruction sets give the same bits.
pub(super) fn nearest(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_avx512(row, panels, n_references) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_avx2(row, panels, n_references) };
        }
    }
    nearest_portable(row, panels, n_references)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn nearest_avx512(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    nearest_portable(row, panels, n_references)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn nearest_avx2(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    nearest_portable(row, panels, n_references)
}

#[inline(always)]
fn nearest_portable(row: &[f32], panels: &[f32], n_references: usize) -> (usize, f32) {
    let mut best = (0, f32::INFINITY);
    for (panel, values) in panels.chunks_exact(row.len() * PANEL).enumerate() {
        let mut squares = [0.0_f32; PANEL];
        for (&value, references) in row.iter().zip(values.chunks_exact(PANEL)) {
            for (square, &reference) in squares.iter_mut().zip(references) {
                let gap = value - reference;
                *square += gap * gap;
            }
        }
        let used = (n_references - panel * PANEL).min(PANEL);
        for (lane, &square) in squares[..used].iter().enumerate() {
            if square < best.1 {
                best = (panel * PANEL + lane, square);
            }
        }
    }
    best
}

/// Panels that are measured side by side: the sums of one alone wait for each other.
const ABREAST: usize = 4;

/// For each group of panels that are measured side by side, a bit for each column (of the first 64) in
/// which all of its references are the same: a row that is, too, is no farther from any of them for it.
pub(super) fn flat_columns(draws: &[f32], n_columns: usize) -> Vec<u64> {
    let panel_len = n_columns * PANEL;
    let of_group = |group: &[f32]| {
        let is_flat = |column: &usize| {
            let mut panels = group.chunks_exact(panel_len);
            panels.all(|panel| {
                let references = &panel[column * PANEL..(column + 1) * PANEL];
                references.iter().all(|reference| *reference == group[column * PANEL])
            })
        };
        (0..n_columns.min(64)).filter(is_flat).fold(0, |flat, column| flat | 1 << column)
    };
    draws.chunks(panel_len * ABREAST).map(of_group).collect()
}

/// The squared distances from rows of `n_columns` to the nearest reference of each of some draws,
/// which lie one after another: the same bits as [`nearest`] finds one by one. `out` gets a row's
/// draws side by side. Panels are fetched once for all of the rows, and columns that are `flat`
/// ([`flat_columns`]) only where a row differs.
pub(super) fn nearest_of_each(
    rows: &[f32],
    n_columns: usize,
    draws: (&[f32], &[u64]),
    n_references: usize,
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_of_each_avx512(rows, n_columns, draws, n_references, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { nearest_of_each_avx2(rows, n_columns, draws, n_references, out) };
        }
    }
    nearest_of_each_portable(rows, n_columns, draws, n_references, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn nearest_of_each_avx512(
    rows: &[f32],
    n_columns: usize,
    draws: (&[f32], &[u64]),
    n_references: usize,
    out: &mut [f32],
) {
    nearest_of_each_portable(rows, n_columns, draws, n_references, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn nearest_of_each_avx2(
    rows: &[f32],
    n_columns: usize,
    draws: (&[f32], &[u64]),
    n_references: usize,
    out: &mut [f32],
) {
    nearest_of_each_portable(rows, n_columns, draws, n_references, out);
}

#[inline(always)]
fn nearest_of_each_portable(
    rows: &[f32],
    n_columns: usize,
    (draws, flat): (&[f32], &[u64]),
    n_references: usize,
    out: &mut [f32],
) {
    let panel_len = n_columns * PANEL;
    let panels_each = n_references.div_ceil(PANEL);
    let n_draws = draws.len() / (panel_len * panels_each);
    // References of a draw's last panel.
    let last = n_references - (panels_each - 1) * PANEL;
    out.fill(f32::INFINITY);
    for (group, panels) in draws.chunks(panel_len * ABREAST).enumerate() {
        let flat = flat.get(group).copied().unwrap_or(0);
        for (row, least) in rows.chunks_exact(n_columns).zip(out.chunks_exact_mut(n_draws)) {
            let mut squares = [[0.0_f32; PANEL]; ABREAST];
            let n_panels = panels.len() / panel_len;
            if n_panels == ABREAST {
                for (column, &value) in row.iter().enumerate() {
                    let is_flat = column < 64 && flat >> column & 1 == 1;
                    if is_flat && value == panels[column * PANEL] {
                        continue;
                    }
                    for (number, square) in squares.iter_mut().enumerate() {
                        let start = number * panel_len + column * PANEL;
                        add_gaps(square, value, &panels[start..start + PANEL]);
                    }
                }
            } else {
                for (panel, square) in panels.chunks_exact(panel_len).zip(&mut squares) {
                    for (&value, references) in row.iter().zip(panel.chunks_exact(PANEL)) {
                        add_gaps(square, value, references);
                    }
                }
            }
            for (number, mut square) in squares.into_iter().enumerate().take(n_panels) {
                let panel = group * ABREAST + number;
                let (draw, of_draw) = (panel / panels_each, panel % panels_each);
                if of_draw + 1 == panels_each && last < PANEL {
                    square[last..].fill(f32::INFINITY);
                }
                least[draw] = least[draw].min(smallest(square));
            }
        }
    }
}

#[inline(always)]
fn add_gaps(squares: &mut [f32; PANEL], value: f32, references: &[f32]) {
    for (square, &reference) in squares.iter_mut().zip(references) {
        let gap = value - reference;
        *square += gap * gap;
    }
}

/// The least of a panel's sums.
#[inline(always)]
fn smallest(squares: [f32; PANEL]) -> f32 {
    let halved: [f32; 8] = std::array::from_fn(|at| lesser(squares[at], squares[at + 8]));
    let halved: [f32; 4] = std::array::from_fn(|at| lesser(halved[at], halved[at + 4]));
    lesser(lesser(halved[0], halved[2]), lesser(halved[1], halved[3]))
}

#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn draws_together_are_as_near_as_one_by_one() {
        let mut rng = SmallRng::seed_from_u64(3);
        for (n_columns, n_references, n_draws) in
            [(1, 1usize, 1), (20, 16, 50), (7, 5, 9), (3, 17, 6), (20, 40, 13)]
        {
            let len = n_references.div_ceil(PANEL) * PANEL * n_columns;
            let mut draws: Vec<f32> =
                (0..len * n_draws).map(|_| rng.gen_range(-3.0..3.0)).collect();
            let mut rows: Vec<f32> = (0..3 * n_columns).map(|_| rng.gen_range(-3.0..3.0)).collect();
            // Every third column of all but the last draw is the same, and a row's mostly, too.
            let used = draws.len() - len;
            for (at, value) in draws[..used].iter_mut().enumerate() {
                *value = if (at / PANEL % n_columns).is_multiple_of(3) { 0.5 } else { *value };
            }
            for (at, value) in rows.iter_mut().enumerate() {
                *value = if at % n_columns % 6 == 0 { 0.5 } else { *value };
            }
            let flat = flat_columns(&draws, n_columns);
            assert_eq!(flat[0] & 1, u64::from(n_draws > ABREAST), "{n_columns} {n_draws}");
            let one_by_one: Vec<f32> = rows
                .chunks_exact(n_columns)
                .flat_map(|row| {
                    draws.chunks_exact(len).map(|draw| nearest(row, draw, n_references))
                })
                .map(|(_, square)| square)
                .collect();
            let mut together = vec![0.0; 3 * n_draws];
            for nearest in [nearest_of_each, nearest_of_each_portable] {
                nearest(&rows, n_columns, (&draws, &flat), n_references, &mut together);
                assert_eq!(together, one_by_one, "{n_columns} {n_references} {n_draws}");
            }
        }
    }
}
