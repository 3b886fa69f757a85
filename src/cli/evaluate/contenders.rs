//! Names become contenders here: baselines, and policy folders with their runs.

use super::super::CliError;
use crate::datasets::Question;
use crate::evaluate::Contender;
use crate::policy::baselines::{self, BaselineError, Positives, Tools};
use crate::policy::fixed::FixedK;
use crate::policy::serving::{self, EncoderPolicy};
use crate::wiring::Lab;
use actors::types::PolicySnapshot;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Cuts of the retrieval order that every policy is compared with.
const FIXED: [usize; 5] = [1, 3, 5, 10, 20];
const FIXED_PREFIX: &str = "retrieval_k";
const UNTRAINED: &str = "untrained";

/// The baselines of a comparison that asks for none: the fixed cuts that `top_n` allows, and the
/// policy before any training.
pub(super) fn default_baselines(top_n: usize) -> Vec<String> {
    let fixed = FIXED.iter().filter(|&&k| k <= top_n).map(|k| format!("{FIXED_PREFIX}{k}"));
    fixed.chain([UNTRAINED.to_owned()]).collect()
}

/// The baseline of this name; `seed` is that of an untrained policy and of the lot, `questions` what
/// an oracle knows the documents of.
///
/// # Errors
/// A name that is none; the message says which there are.
pub(super) fn baseline(
    lab: &Lab,
    name: &str,
    questions: &[Question],
    (top_n, seed): (usize, u64),
) -> Result<Contender, CliError> {
    if let Some(k) = name.strip_prefix(FIXED_PREFIX).and_then(|k| k.parse::<usize>().ok()) {
        if k == 0 || k > top_n {
            return Err(CliError::Usage(format!(
                "--baselines `{name}` needs a k from 1 to --top-n, which is {top_n}"
            )));
        }
        return Ok(Contender { name: name.to_owned(), policy: Box::new(FixedK::new(k)) });
    }
    if name == UNTRAINED {
        let snapshot = serving::first_snapshot(lab.reader.width(), seed, &lab.device)
            .map_err(|e| CliError::because(format!("cannot make an untrained policy: {e}")))?;
        return trained(lab, name, &snapshot);
    }
    let positives: Positives =
        questions.iter().map(|q| (q.id.as_str().into(), q.positives.clone())).collect();
    let tools = Tools {
        reader: Arc::clone(&lab.reader),
        positives: Arc::new(positives),
        seed,
        device: lab.device.clone(),
    };
    let policy = baselines::by_name(name, &tools).map_err(|error| match error {
        BaselineError::Unknown(error) => {
            CliError::Usage(format!("--baselines `{name}`: {error}; or `{UNTRAINED}`"))
        }
        other => CliError::failed(format!("cannot make baseline `{name}`"), other),
    })?;
    Ok(Contender::deciding(name, policy))
}

/// A policy of this program's own kind.
///
/// # Errors
/// Weights that do not fit the encoder of the configuration.
pub(super) fn trained(
    lab: &Lab,
    name: &str,
    snapshot: &PolicySnapshot,
) -> Result<Contender, CliError> {
    let policy = EncoderPolicy::new(Arc::clone(&lab.reader), snapshot, lab.device.clone())
        .map_err(|e| CliError::failed(format!("cannot serve policy `{name}`"), e))?;
    Ok(Contender { name: name.to_owned(), policy: Box::new(policy) })
}

/// `NAME=DIR` or `DIR`: the name a policy is given, if any, and its folder.
pub(super) fn named_folder(given: &str) -> (Option<&str>, &Path) {
    match given.split_once('=') {
        // A path may hold `=`; a name holds no separator.
        Some((name, folder)) if !name.is_empty() && !name.contains(['/', '\\']) => {
            (Some(name), Path::new(folder))
        }
        _ => (None, Path::new(given)),
    }
}

/// The contender each folder is a run of: folders that differ by a number at the end alone
/// (`mine-0`, `mine-1`, as training with several seeds leaves them) are runs of one.
pub(super) fn contenders_of(folders: &[String]) -> Vec<String> {
    let stem = |name: &str| {
        let (stem, number) = name.rsplit_once('-')?;
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (is_number && !stem.is_empty()).then(|| stem.to_owned())
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for stem in folders.iter().filter_map(|name| stem(name)) {
        *counts.entry(stem).or_default() += 1;
    }
    let of = |name: &String| match stem(name) {
        Some(stem) if counts.get(&stem).is_some_and(|count| *count > 1) => stem,
        _ => name.clone(),
    };
    folders.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_several_seeds_are_runs_of_one_contender() {
        let names = ["mine-0", "mine-1", "other-7", "plain", "-3", "mine-x"].map(str::to_owned);
        let found = contenders_of(&names);
        assert_eq!(found, ["mine", "mine", "other-7", "plain", "-3", "mine-x"]);
    }

    #[test]
    fn a_policy_may_be_given_a_name() {
        assert_eq!(named_folder("rrpo=runs/a"), (Some("rrpo"), Path::new("runs/a")));
        assert_eq!(named_folder("runs/a"), (None, Path::new("runs/a")));
        assert_eq!(named_folder("runs/k=3/a"), (None, Path::new("runs/k=3/a")));
    }

    #[test]
    fn default_baselines_are_the_cuts_that_the_list_allows() {
        assert_eq!(
            default_baselines(5),
            ["retrieval_k1", "retrieval_k3", "retrieval_k5", "untrained"]
        );
    }
}
