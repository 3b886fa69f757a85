//! Laid questions as a file of plain numbers, for work on them outside the service.

use super::Laid;
use crate::bench::{BenchError, write_json};
use crate::policy::features;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// Writes `FOLDER/NAME.bin`, little-endian f32: states (N, width), then F1, margin, tokens and
/// relevance logit (N each) of all N candidates, question after question; and `NAME.json`, which
/// says how many candidates each question has and what the columns are.
///
/// # Errors
/// The files cannot be written.
pub fn keep(folder: &Path, name: &str, laid: &[Laid]) -> Result<(), BenchError> {
    let path = folder.join(format!("{name}.bin"));
    let failed = |e: std::io::Error| BenchError::File {
        doing: "write",
        path: path.clone(),
        reason: e.to_string(),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    let mut put = |values: &mut dyn Iterator<Item = f32>| -> Result<(), BenchError> {
        for value in values {
            file.write_all(&value.to_le_bytes()).map_err(failed)?;
        }
        Ok(())
    };
    put(&mut laid.iter().flat_map(|q| q.instance.states.values()).copied())?;
    put(&mut laid.iter().flat_map(|q| &q.f1).map(|f1| *f1 as f32))?;
    put(&mut laid.iter().flat_map(|q| &q.margin).copied())?;
    put(&mut laid.iter().flat_map(|q| &q.instance.tokens).map(|tokens| *tokens as f32))?;
    put(&mut laid.iter().flat_map(|q| &q.relevance).copied())?;
    file.flush().map_err(failed)?;
    let width =
        laid.iter().find(|q| !q.instance.is_empty()).map_or(0, |q| q.instance.states.width());
    let header = json!({
        "n_questions": laid.len(),
        "width": width,
        "embedding": width.saturating_sub(features::SCALARS.len()),
        "scalars": features::SCALARS.iter().map(|(name, _, _)| *name).collect::<Vec<_>>(),
        "arrays": ["states", "f1", "margin", "tokens", "relevance"],
        "candidates": laid.iter().map(|q| q.f1.len()).collect::<Vec<_>>(),
        "ids": laid.iter().map(|q| q.instance.query.id.as_str()).collect::<Vec<_>>(),
    });
    write_json(&folder.join(format!("{name}.json")), &header)
}
