//! Matrix products over strided slices, with every bound checked before the one unsafe call.
//!
//! Knows nothing of what the matrices mean.

/// Two shapes that do not go together, or a slice too short for its shape.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ShapeError {
    /// The last element of the matrix lies outside its slice.
    #[error(
        "a {rows}x{columns} matrix with strides ({row_stride}, {column_stride}) does not fit into \
         {len} numbers"
    )]
    OutOfBounds {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// Distance between rows, in numbers.
        row_stride: usize,
        /// Distance between columns, in numbers.
        column_stride: usize,
        /// Numbers there are.
        len: usize,
    },
    /// The inner or outer sizes of a product differ.
    #[error("cannot do {operation}: expected {expected} numbers, found {found}")]
    Mismatch {
        /// What was being computed.
        operation: &'static str,
        /// Size that the other arguments ask for.
        expected: usize,
        /// Size found.
        found: usize,
    },
}

/// Fails unless `found` equals `expected`.
pub(super) fn same(
    operation: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), ShapeError> {
    if expected == found {
        return Ok(());
    }
    Err(ShapeError::Mismatch { operation, expected, found })
}

fn check_bounds(
    (rows, columns): (usize, usize),
    (row_stride, column_stride): (usize, usize),
    len: usize,
) -> Result<(), ShapeError> {
    let last = |count: usize, stride: usize| count.saturating_sub(1).checked_mul(stride);
    let end = last(rows, row_stride)
        .zip(last(columns, column_stride))
        .and_then(|(row, column)| row.checked_add(column));
    let empty = rows == 0 || columns == 0;
    if empty || end.is_some_and(|end| end < len) {
        return Ok(());
    }
    Err(ShapeError::OutOfBounds { rows, columns, row_stride, column_stride, len })
}

/// A read-only matrix inside a slice: element (r, c) is `data[r * row_stride + c * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    size: (usize, usize),
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows lie `row_stride` numbers apart and whose columns lie side by side.
    pub fn rows(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Result<Self, ShapeError> {
        check_bounds((rows, columns), (row_stride, 1), data.len())?;
        Ok(Self { data, size: (rows, columns), strides: (row_stride, 1) })
    }

    /// The transpose, without moving anything.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            size: (self.size.1, self.size.0),
            strides: (self.strides.1, self.strides.0),
        }
    }
}

/// A writable matrix of contiguous rows that fills its slice.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    size: (usize, usize),
}

impl<'a> MatrixMut<'a> {
    /// Views a slice of exactly `rows * columns` numbers.
    pub fn rows(data: &'a mut [f32], rows: usize, columns: usize) -> Result<Self, ShapeError> {
        same("matrix view", rows * columns, data.len())?;
        Ok(Self { data, size: (rows, columns) })
    }
}

/// Who works on one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread alone; for products inside rayon jobs.
    Caller,
    /// The rayon pool.
    Pool,
}

/// `out = scale * a b`, or `out += scale * a b` where `accumulate`.
pub fn matmul(
    out: MatrixMut<'_>,
    accumulate: bool,
    (a, b): (Matrix<'_>, Matrix<'_>),
    scale: f32,
    threads: Threads,
) -> Result<(), ShapeError> {
    same("matrix product (inner size)", a.size.1, b.size.0)?;
    same("matrix product (rows)", a.size.0, out.size.0)?;
    same("matrix product (columns)", b.size.1, out.size.1)?;
    let (m, n) = out.size;
    let k = a.size.1;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let parallelism = match threads {
        Threads::Caller => gemm::Parallelism::None,
        Threads::Pool => gemm::Parallelism::Rayon(rayon::current_num_threads()),
    };
    let kept = if accumulate { 1.0 } else { 0.0 };
    // Strides fit `isize`: they are at most a slice's length wherever the size along them exceeds
    // 1, and `stride` gives 0 for the rest.
    #[expect(
        unsafe_code,
        reason = "gemm takes raw pointers; Matrix and MatrixMut have checked that every element \
                  it touches lies inside their slices, and `out` is an exclusive borrow"
    )]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            stride(a.strides.1, a.size.1),
            stride(a.strides.0, a.size.0),
            b.data.as_ptr(),
            stride(b.strides.1, b.size.1),
            stride(b.strides.0, b.size.0),
            kept,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}

fn stride(stride: usize, count: usize) -> isize {
    if count > 1 { stride as isize } else { 0 }
}
