//! What changed between two policies, tensor by tensor.

use crate::cli::CliError;
use actors::types::PolicySnapshot;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Shape and values of one tensor.
type Numbers = (Vec<usize>, Vec<f64>);

/// One line a tensor: `{tensor, shape, max_abs_diff, relative_change}`, where the change is the
/// norm of right minus left over the norm of left (null where left is all zero and right is not);
/// then one line for all that both have.
pub(super) fn of(left: &PolicySnapshot, right: &PolicySnapshot) -> Result<Vec<Value>, CliError> {
    let (a, b) = (numbers(left)?, numbers(right)?);
    let mut lines = Vec::new();
    let mut all = Change::default();
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        lines.push(match (a.get(name), b.get(name)) {
            (Some((shape, from)), Some((other, to))) if shape == other => {
                let change = Change::of(from, to);
                all.add(&change);
                change.line(json!({ "tensor": name, "shape": shape }))
            }
            (Some((shape, _)), Some((other, _))) => {
                json!({ "tensor": name, "shapes": [shape, other] })
            }
            (Some((shape, _)), None) => json!({ "tensor": name, "shape": shape, "only": "left" }),
            (None, right) => {
                json!({ "tensor": name, "shape": right.map(|r| &r.0), "only": "right" })
            }
        });
    }
    let sides = json!({
        "left": { "version": left.version, "digest": left.digest },
        "right": { "version": right.version, "digest": right.digest },
        "same": left.digest == right.digest,
    });
    lines.push(all.line(sides));
    Ok(lines)
}

/// Largest and squared differences of some values.
#[derive(Debug, Default)]
struct Change {
    largest: f64,
    squares: f64,
    left_squares: f64,
}

impl Change {
    fn of(from: &[f64], to: &[f64]) -> Self {
        let mut change = Self::default();
        for (from, to) in from.iter().zip(to) {
            let difference = to - from;
            change.largest = change.largest.max(difference.abs());
            change.squares += difference * difference;
            change.left_squares += from * from;
        }
        change
    }

    fn add(&mut self, other: &Self) {
        self.largest = self.largest.max(other.largest);
        self.squares += other.squares;
        self.left_squares += other.left_squares;
    }

    fn line(&self, mut line: Value) -> Value {
        let relative = match (self.squares, self.left_squares) {
            (0.0, _) => Some(0.0),
            (_, 0.0) => None,
            (squares, left) => Some((squares / left).sqrt()),
        };
        line["max_abs_diff"] = json!(self.largest);
        line["relative_change"] = json!(relative);
        line
    }
}

fn numbers(policy: &PolicySnapshot) -> Result<BTreeMap<String, Numbers>, CliError> {
    let version = policy.version;
    let file = SafeTensors::deserialize(&policy.weights)
        .map_err(|e| CliError::failed(format!("the weights of {version} cannot be read"), e))?;
    let mut numbers = BTreeMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            let found = view.dtype();
            return Err(CliError::because(format!(
                "tensor `{name}` of {version} is {found:?}; policies are stored as F32"
            )));
        }
        let values = view.data().chunks_exact(4);
        let values = values.map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        numbers.insert(name, (view.shape().to_vec(), values.collect()));
    }
    Ok(numbers)
}
