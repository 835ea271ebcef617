//! Products of matrices in f32, the same bits on every machine: plain multiplications and
//! additions in an order that does not depend on the number of threads.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Columns of a panel.
const WIDTH: usize = 8;
/// Steps after which a sum goes to memory: two panels of them fit the L1 cache.
const BLOCK: usize = 256;

/// A matrix cut into panels of eight columns, each contiguous.
#[derive(Debug)]
pub(super) struct Panels {
    steps: usize,
    columns: usize,
    values: Vec<[f32; WIDTH]>,
}

impl Panels {
    /// The panels of `x`, `[steps, columns]`.
    pub(super) fn new(x: &[f32], columns: usize) -> Self {
        let steps = x.len() / columns;
        let mut values = vec![[0.0; WIDTH]; columns.div_ceil(WIDTH) * steps];
        for (step, row) in x.chunks_exact(columns).enumerate() {
            for (panel, row) in row.chunks(WIDTH).enumerate() {
                values[panel * steps + step][..row.len()].copy_from_slice(row);
            }
        }
        Self {
            steps,
            columns,
            values,
        }
    }

    /// The panels of the transpose of `x`, `[columns, steps]`.
    pub(super) fn transposed(x: &[f32], steps: usize) -> Self {
        let columns = x.len() / steps;
        let mut values = vec![[0.0; WIDTH]; columns.div_ceil(WIDTH) * steps];
        for (column, row) in x.chunks_exact(steps).enumerate() {
            let panel = &mut values[column / WIDTH * steps..][..steps];
            for (out, x) in panel.iter_mut().zip(row) {
                out[column % WIDTH] = *x;
            }
        }
        Self {
            steps,
            columns,
            values,
        }
    }

    fn panel(&self, i: usize) -> &[[f32; WIDTH]] {
        &self.values[i * self.steps..][..self.steps]
    }

    /// `self^T other`, `[self.columns, other.columns]`.
    pub(super) fn product(&self, other: &Self) -> Vec<f32> {
        self.multiply(other, |_| 0)
    }

    /// `self^T self`.
    pub(super) fn gram(&self) -> Vec<f32> {
        let n = self.columns;
        let mut out = self.multiply(self, |panel| panel);
        for row in 1..n {
            for column in 0..row {
                out[row * n + column] = out[column * n + row];
            }
        }
        out
    }

    /// The product; of a panel of its rows, only panels from `first` of it on.
    fn multiply(&self, other: &Self, first: impl Fn(usize) -> usize + Sync) -> Vec<f32> {
        assert_eq!(self.steps, other.steps, "the inner sizes are equal");
        let n = other.columns;
        let mut out = vec![0.0; self.columns * n];
        for_each(out.chunks_mut(WIDTH * n), |i, rows| {
            let a = self.panel(i).chunks(BLOCK);
            for (block, a) in a.enumerate() {
                for j in first(i)..n.div_ceil(WIDTH) {
                    let b = &other.panel(j)[block * BLOCK..][..a.len()];
                    let sums = tile(a, b);
                    for (row, sums) in rows.chunks_exact_mut(n).zip(&sums) {
                        let columns = j * WIDTH..n.min((j + 1) * WIDTH);
                        for (out, sum) in row[columns].iter_mut().zip(sums) {
                            *out += sum;
                        }
                    }
                }
            }
        });
        out
    }
}

/// The product of two panels. Half of the rows at a time, whose sums stay in registers.
fn tile(a: &[[f32; WIDTH]], b: &[[f32; WIDTH]]) -> [[f32; WIDTH]; WIDTH] {
    const HALF: usize = WIDTH / 2;
    let mut sums = [[0.0; WIDTH]; WIDTH];
    for (half, sums) in sums.chunks_exact_mut(HALF).enumerate() {
        let mut rows = [[0.0; WIDTH]; HALF];
        for (a, b) in a.iter().zip(b) {
            let a = &a[half * HALF..][..HALF];
            for (row, a) in rows.iter_mut().zip(a) {
                for (sum, b) in row.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        sums.copy_from_slice(&rows);
    }
    sums
}

/// Calls `f` with each item and its number, on all cores.
pub(super) fn for_each<T: Send>(
    items: impl ExactSizeIterator<Item = T> + Send,
    f: impl Fn(usize, T) + Sync,
) {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.min(items.len());
    let items = Mutex::new(items.enumerate());
    let work = || {
        while let Some((i, item)) = { items.lock().unwrap_or_else(PoisonError::into_inner).next() }
        {
            f(i, item);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(rows: usize, columns: usize, of: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.map(|(row, column)| of(row, column)).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (m, n, k) in [(1, 1, 1), (8, 9, 3), (17, 7, 300), (5, 24, 513)] {
            let a: Vec<f32> = (0..m * k).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
            let b: Vec<f32> = (0..n * k).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
            // Whole numbers, and so exact in any order.
            let product = Panels::transposed(&a, k).product(&Panels::transposed(&b, k));
            let sum = |row, column| (0..k).map(|i| a[row * k + i] * b[column * k + i]).sum();
            assert_eq!(product, entries(m, n, sum));
            let sum = |row, column| (0..m).map(|i| a[i * k + row] * a[i * k + column]).sum();
            assert_eq!(Panels::new(&a, k).gram(), entries(k, k, sum));
        }
    }
}
