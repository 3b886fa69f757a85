//! Multi-head attention over sequences of different lengths laid end to end, without padding.
//!
//! One job a (sequence, head), serial products inside; the probabilities live only as long as their
//! job and are computed again for the gradient. Knows no tensor.

use super::matmul::{Matrix, MatrixMut, ShapeError, Threads, matmul, same};
use super::{softmax_row, softmax_row_backward};
use rayon::prelude::*;

/// How packed rows divide into sequences and heads.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape<'a> {
    /// Row at which each sequence starts, and the row count last: B + 1 numbers, not falling.
    pub offsets: &'a [usize],
    /// Heads; the row width is `heads * head_width`.
    pub heads: usize,
    /// Numbers a head.
    pub head_width: usize,
}

/// Gradients of [`attention`], each (rows, width).
#[derive(Debug)]
pub struct AttentionGradients {
    /// By the queries.
    pub query: Vec<f32>,
    /// By the keys.
    pub key: Vec<f32>,
    /// By the values.
    pub value: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Job {
    /// First row of the sequence.
    start: usize,
    /// Rows of the sequence.
    len: usize,
    head: usize,
}

impl AttentionShape<'_> {
    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    fn jobs(&self, numbers: usize) -> Result<Vec<Job>, ShapeError> {
        let rows = self.offsets.last().copied().unwrap_or(0);
        same("attention (rows times width)", rows * self.width(), numbers)?;
        same("attention (first offset)", 0, self.offsets.first().copied().unwrap_or(0))?;
        let mut jobs = Vec::with_capacity(self.offsets.len() * self.heads);
        for pair in self.offsets.windows(2) {
            let Some(len) = pair[1].checked_sub(pair[0]) else {
                return Err(ShapeError::Mismatch {
                    operation: "attention (rising offsets)",
                    expected: pair[0],
                    found: pair[1],
                });
            };
            jobs.extend((0..self.heads).map(|head| Job { start: pair[0], len, head }));
        }
        Ok(jobs)
    }

    /// The (len, head_width) part of packed rows that a job reads.
    fn part<'a>(&self, packed: &'a [f32], job: Job) -> Result<Matrix<'a>, ShapeError> {
        let from = (job.start * self.width() + job.head * self.head_width).min(packed.len());
        Matrix::rows(&packed[from..], job.len, self.head_width, self.width())
    }

    /// Copies blocks of (len, head_width), one a job in order, to packed rows of full width.
    fn gather(&self, blocks: &[f32]) -> Vec<f32> {
        let (width, head_width) = (self.width(), self.head_width);
        let mut packed = vec![0f32; blocks.len()];
        let mut rest = packed.as_mut_slice();
        let mut sequences = Vec::with_capacity(self.offsets.len());
        for pair in self.offsets.windows(2) {
            let (rows, after) = rest.split_at_mut((pair[1] - pair[0]) * width);
            sequences.push((pair[0] * width, rows));
            rest = after;
        }
        sequences.into_par_iter().for_each(|(from, rows)| {
            let block = &blocks[from..from + rows.len()];
            let len = rows.len() / width;
            for (r, row) in rows.chunks_exact_mut(width).enumerate() {
                for (head, out) in row.chunks_exact_mut(head_width).enumerate() {
                    let at = (head * len + r) * head_width;
                    out.copy_from_slice(&block[at..at + head_width]);
                }
            }
        });
        packed
    }

    /// Splits a buffer into one block a job: the safe way to write from all jobs at once.
    fn blocks<'a>(&self, jobs: &[Job], mut buffer: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let mut blocks = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (block, rest) = buffer.split_at_mut(job.len * self.head_width);
            blocks.push(block);
            buffer = rest;
        }
        blocks
    }

    /// softmax(q k^T / sqrt(d)) of one job into `scores` (len, len).
    fn probabilities(
        &self,
        (q, k): (&[f32], &[f32]),
        job: Job,
        scores: &mut Vec<f32>,
    ) -> Result<(), ShapeError> {
        scores.resize(job.len * job.len, 0.0);
        let product = (self.part(q, job)?, self.part(k, job)?.transposed());
        let out = MatrixMut::rows(scores, job.len, job.len)?;
        matmul(out, false, product, self.scale(), Threads::Caller)?;
        scores.chunks_exact_mut(job.len.max(1)).for_each(softmax_row);
        Ok(())
    }
}

/// softmax(q k^T / sqrt(head_width)) v within each sequence and head; all (rows, width).
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: AttentionShape<'_>,
) -> Result<Vec<f32>, ShapeError> {
    same("attention (keys)", q.len(), k.len())?;
    same("attention (values)", q.len(), v.len())?;
    let jobs = shape.jobs(q.len())?;
    let mut buffer = vec![0f32; q.len()];
    jobs.par_iter().zip(shape.blocks(&jobs, &mut buffer)).try_for_each_init(
        Vec::new,
        |scores, (&job, out)| {
            shape.probabilities((q, k), job, scores)?;
            let p = Matrix::rows(scores, job.len, job.len, job.len)?;
            let out = MatrixMut::rows(out, job.len, shape.head_width)?;
            matmul(out, false, (p, shape.part(v, job)?), 1.0, Threads::Caller)
        },
    )?;
    Ok(shape.gather(&buffer))
}

/// Gradients of [`attention`] by q, k and v, given `gradient` (rows, width) by its output.
pub fn attention_backward(
    (q, k, v): (&[f32], &[f32], &[f32]),
    gradient: &[f32],
    shape: AttentionShape<'_>,
) -> Result<AttentionGradients, ShapeError> {
    same("attention gradient", q.len(), gradient.len())?;
    same("attention (keys)", q.len(), k.len())?;
    same("attention (values)", q.len(), v.len())?;
    let jobs = shape.jobs(q.len())?;
    let (mut dq, mut dk, mut dv) = (vec![0f32; q.len()], vec![0f32; q.len()], vec![0f32; q.len()]);
    let outputs = shape
        .blocks(&jobs, &mut dq)
        .into_iter()
        .zip(shape.blocks(&jobs, &mut dk))
        .zip(shape.blocks(&jobs, &mut dv))
        .collect::<Vec<_>>();
    jobs.par_iter().zip(outputs).try_for_each_init(
        || (Vec::new(), Vec::new()),
        |(scores, ds), (&job, ((dq, dk), dv))| {
            let (len, width) = (job.len, shape.head_width);
            shape.probabilities((q, k), job, scores)?;
            let p = Matrix::rows(scores, len, len, len)?;
            let g = shape.part(gradient, job)?;
            let dv = MatrixMut::rows(dv, len, width)?;
            matmul(dv, false, (p.transposed(), g), 1.0, Threads::Caller)?;
            ds.resize(len * len, 0.0);
            let product = (g, shape.part(v, job)?.transposed());
            matmul(MatrixMut::rows(ds, len, len)?, false, product, 1.0, Threads::Caller)?;
            for (p, ds) in scores.chunks_exact(len.max(1)).zip(ds.chunks_exact_mut(len.max(1))) {
                softmax_row_backward(p, ds);
            }
            let ds = Matrix::rows(ds, len, len, len)?;
            let scale = shape.scale();
            let product = (ds, shape.part(k, job)?);
            matmul(MatrixMut::rows(dq, len, width)?, false, product, scale, Threads::Caller)?;
            let product = (ds.transposed(), shape.part(q, job)?);
            matmul(MatrixMut::rows(dk, len, width)?, false, product, scale, Threads::Caller)
        },
    )?;
    Ok(AttentionGradients {
        query: shape.gather(&dq),
        key: shape.gather(&dk),
        value: shape.gather(&dv),
    })
}
