//! The mix of call classes as a distribution.

use hedgerow_event::Family::Shape;

use crate::column::{Column, Source::Rows, share};

/// Shannon entropy of the class counts in bits; unavailable without calls.
fn entropy_bits(classes: &[u64]) -> f64 {
    let total: u64 = classes.iter().sum();
    if total == 0 {
        return f64::NAN;
    }
    let terms = classes.iter().filter(|count| **count > 0).map(|count| {
        let p = *count as f64 / total as f64;
        -p * p.log2()
    });
    // -0 where one class is all.
    terms.sum::<f64>().max(0.0)
}

pub(super) const COLUMNS: &[Column] = &[
    Column::measure(
        Shape,
        Rows,
        "shape_entropy_bits",
        "Shannon entropy of the class counts (0 to 6). Unavailable without calls",
        |a, _| entropy_bits(&a.calls.classes),
    ),
    Column::count(Shape, Rows, "shape_classes_count", "call classes in use (of 64)", |a, _| {
        a.calls.classes.iter().filter(|count| **count > 0).count() as f64
    }),
    Column::measure(
        Shape,
        Rows,
        "shape_top_share",
        "calls of the most frequent class / calls of all classes. Unavailable without calls",
        |a, _| {
            let classes = &a.calls.classes;
            share(classes.iter().copied().max().unwrap_or(0), classes.iter().sum())
        },
    ),
    Column::measure(
        Shape,
        Rows,
        "shape_rarity_bits",
        "mean over the calls of -log2 of their class's share in what the workload did while it was \
         learned (the host's, for an unknown workload), one call added to each class. Unavailable \
         while learning and without calls",
        |a, c| c.known.map_or(f64::NAN, |known| known.rarity_bits(&a.calls.classes)),
    ),
    Column::measure(
        Shape,
        Rows,
        "shape_distance_share",
        "Hellinger distance (0 to 1) between the window's class shares and those learned of its \
         program. Unavailable while learning, without calls, and for a program that was not learned",
        |a, c| {
            c.known.map_or(f64::NAN, |known| known.distance(&a.subject.program, &a.calls.classes))
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_zero_for_one_class_and_six_bits_for_all() {
        assert!(entropy_bits(&[0; 64]).is_nan());
        let mut one = [0; 64];
        one[3] = 9;
        assert_eq!(entropy_bits(&one), 0.0);
        assert!((entropy_bits(&[2; 64]) - 6.0).abs() < 1e-12);
    }
}
