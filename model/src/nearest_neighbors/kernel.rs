//! Squared distances from rows to many reference rows, sixteen at a time.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

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
    let mut best = (0, f32::INFINITY);
    for (panel, values) in panels.chunks_exact(row.len() * PANEL).enumerate() {
        let mut squares = Plain::zero();
        for (&value, references) in row.iter().zip(values.as_chunks().0) {
            squares = squares.add_gaps(Plain::splat(value), references);
        }
        let used = (n_references - panel * PANEL).min(PANEL);
        for (lane, &square) in squares.0[..used].iter().enumerate() {
            if square < best.1 {
                best = (panel * PANEL + lane, square);
            }
        }
    }
    best
}

/// A panel's worth of values in registers. All but [`Plain`] may be used only where the processor has
/// the instructions, and from functions that are compiled for them.
trait Lanes: Copy {
    fn zero() -> Self;
    fn splat(value: f32) -> Self;
    /// Adds the squares of the gaps between a row's value and a panel's.
    fn add_gaps(self, value: Self, references: &[f32; PANEL]) -> Self;
    fn values(self) -> [f32; PANEL];
}

#[derive(Clone, Copy)]
struct Plain([f32; PANEL]);

impl Lanes for Plain {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; PANEL])
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; PANEL])
    }

    #[inline(always)]
    fn add_gaps(self, value: Self, references: &[f32; PANEL]) -> Self {
        Self(std::array::from_fn(|lane| {
            let gap = value.0[lane] - references[lane];
            self.0[lane] + gap * gap
        }))
    }

    #[inline(always)]
    fn values(self) -> [f32; PANEL] {
        self.0
    }
}

// Written out, since the compiler makes sixteen single sums of the plain one.
#[cfg(target_arch = "x86_64")]
impl Lanes for __m512 {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: the trait asks for a processor that has AVX-512F.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn add_gaps(self, value: Self, references: &[f32; PANEL]) -> Self {
        // SAFETY: as above; sixteen values are read, wherever they lie.
        unsafe {
            let gap = _mm512_sub_ps(value, _mm512_loadu_ps(references.as_ptr()));
            _mm512_add_ps(self, _mm512_mul_ps(gap, gap))
        }
    }

    #[inline(always)]
    fn values(self) -> [f32; PANEL] {
        let mut values = [0.0; PANEL];
        // SAFETY: as above; sixteen values are written.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self) };
        values
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for [__m256; 2] {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: the trait asks for a processor that has AVX2.
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn add_gaps(self, value: Self, references: &[f32; PANEL]) -> Self {
        let (halves, _) = references.as_chunks::<8>();
        let add = |half: usize| {
            // SAFETY: as above; eight values are read, wherever they lie.
            unsafe {
                let gap = _mm256_sub_ps(value[half], _mm256_loadu_ps(halves[half].as_ptr()));
                _mm256_add_ps(self[half], _mm256_mul_ps(gap, gap))
            }
        };
        [add(0), add(1)]
    }

    #[inline(always)]
    fn values(self) -> [f32; PANEL] {
        let mut values = [0.0; PANEL];
        for (half, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // SAFETY: as above; eight values are written.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self[half]) };
        }
        values
    }
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
    nearest_of_each_by::<Plain>(rows, n_columns, draws, n_references, out);
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
    nearest_of_each_by::<__m512>(rows, n_columns, draws, n_references, out);
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
    nearest_of_each_by::<[__m256; 2]>(rows, n_columns, draws, n_references, out);
}

#[inline(always)]
fn nearest_of_each_by<L: Lanes>(
    rows: &[f32],
    n_columns: usize,
    (draws, flat): (&[f32], &[u64]),
    n_references: usize,
    out: &mut [f32],
) {
    // A panel's references of each column.
    let (draws, _) = draws.as_chunks::<PANEL>();
    let panels_each = n_references.div_ceil(PANEL);
    let n_draws = draws.len() / (n_columns * panels_each);
    // References of a draw's last panel.
    let last = n_references - (panels_each - 1) * PANEL;
    out.fill(f32::INFINITY);
    for (group, panels) in draws.chunks(n_columns * ABREAST).enumerate() {
        let flat = flat.get(group).copied().unwrap_or(0);
        let n_panels = panels.len() / n_columns;
        // Whose draw each panel is of, and whether it is the last of it: divided once for all rows.
        let of: [(usize, bool); ABREAST] = std::array::from_fn(|number| {
            let panel = group * ABREAST + number;
            (panel / panels_each, (panel + 1).is_multiple_of(panels_each))
        });
        for (row, least) in rows.chunks_exact(n_columns).zip(out.chunks_exact_mut(n_draws)) {
            let mut squares = [L::zero(); ABREAST];
            if n_panels == ABREAST {
                let (first, rest) = panels.split_at(n_columns);
                let (second, rest) = rest.split_at(n_columns);
                let (third, fourth) = rest.split_at(n_columns);
                let columns = first.iter().zip(second).zip(third.iter().zip(fourth));
                for (column, (&value, ((a, b), (c, d)))) in row.iter().zip(columns).enumerate() {
                    let is_flat = column < 64 && flat >> column & 1 == 1;
                    if is_flat && value == a[0] {
                        continue;
                    }
                    let value = L::splat(value);
                    let [s0, s1, s2, s3] = squares;
                    squares = [
                        s0.add_gaps(value, a),
                        s1.add_gaps(value, b),
                        s2.add_gaps(value, c),
                        s3.add_gaps(value, d),
                    ];
                }
            } else {
                for (panel, square) in panels.chunks_exact(n_columns).zip(&mut squares) {
                    for (&value, references) in row.iter().zip(panel) {
                        *square = square.add_gaps(L::splat(value), references);
                    }
                }
            }
            for ((draw, is_last), square) in of.into_iter().zip(squares).take(n_panels) {
                let mut square = square.values();
                if is_last && last < PANEL {
                    square[last..].fill(f32::INFINITY);
                }
                least[draw] = least[draw].min(smallest(square));
            }
        }
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
            for nearest in [nearest_of_each, nearest_of_each_by::<Plain>] {
                nearest(&rows, n_columns, (&draws, &flat), n_references, &mut together);
                assert_eq!(together, one_by_one, "{n_columns} {n_references} {n_draws}");
            }
        }
    }
}
