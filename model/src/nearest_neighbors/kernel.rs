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
