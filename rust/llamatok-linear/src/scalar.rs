//! The product without vector instructions: for other processors, and beside the others in tests.

use crate::kernel::Part;
use crate::weight::Weight;

/// All columns of a part.
pub fn compute<W: Weight>(part: &Part<'_, W>) {
    for output in 0..part.outputs {
        let weights = part.weight_row(output);
        for row in 0..part.rows {
            let products = part.x_row(row).iter().zip(weights).map(|(x, weight)| x * weight.widen());
            part.put(row, output, products.sum());
        }
    }
}
