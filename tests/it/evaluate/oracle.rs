//! The metrics beside the programs that the field takes them from, on a few hundred random cases.

use crate::services::{python, require_or_skip};
use regrade::evaluate::answer_scores;
use regrade::evaluate::metrics::{CUTS, hits, ndcg_at_10, recalls};
use regrade::rewards::rouge_l;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The pinned programs.
const PACKAGES: [&str; 2] = ["rouge-score==0.1.2", "pytrec_eval-terrier==0.5.10"];

#[derive(Deserialize)]
struct Texts {
    answer: String,
    references: Vec<String>,
    em: f64,
    f1: f64,
    rouge_l: f64,
}

#[derive(Deserialize)]
struct Ranked {
    ranking: Vec<String>,
    grades: BTreeMap<String, i32>,
    ndcg_at_10: f64,
    hit_at: [f64; 5],
    recall_at: [f64; 5],
}

#[derive(Deserialize)]
struct Oracle {
    texts: Vec<Texts>,
    rankings: Vec<Ranked>,
}

#[test]
fn metrics_agree_with_rouge_score_pytrec_eval_and_the_squad_script() {
    let python = match python("metrics-rouge-0.1.2-trec-0.5.10", &PACKAGES) {
        Ok(python) => python,
        Err(reason) => return require_or_skip("rouge-score and pytrec_eval for Python", &reason),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/metrics.py");
    let output = Command::new(python)
        .arg(script)
        .args(["drawn", "7", "400", "300"])
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let oracle: Oracle = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((oracle.texts.len(), oracle.rankings.len()), (400, 300));
    for case in &oracle.texts {
        let (f1, em) = answer_scores(&case.answer, &case.references);
        let rouge = rouge_l(&case.answer, &case.references);
        let told = format!("{:?} against {:?}", case.answer, case.references);
        assert!((em - case.em).abs() < 1e-6, "EM {em}, not {}: {told}", case.em);
        assert!((f1 - case.f1).abs() < 1e-6, "F1 {f1}, not {}: {told}", case.f1);
        assert!((rouge - case.rouge_l).abs() < 1e-6, "{rouge}, not {}: {told}", case.rouge_l);
    }
    for case in &oracle.rankings {
        let ranking: Vec<&str> = case.ranking.iter().map(String::as_str).collect();
        let relevant = case.grades.iter().filter(|(_, g)| **g >= 1).map(|(id, _)| id.clone());
        let relevant: BTreeSet<String> = relevant.collect();
        // Where nothing is relevant the program gives 0, and here there is nothing to say.
        let ndcg = ndcg_at_10(&ranking, &case.grades).unwrap_or(0.0);
        assert!((ndcg - case.ndcg_at_10).abs() < 1e-6, "{ndcg}, not {}", case.ndcg_at_10);
        let hit = hits(&ranking, &relevant).unwrap_or_default();
        let recall = recalls(&ranking, &relevant).unwrap_or_default();
        for at in 0..CUTS.len() {
            assert!((hit[at] - case.hit_at[at]).abs() < 1e-6, "hit@{}", CUTS[at]);
            assert!((recall[at] - case.recall_at[at]).abs() < 1e-6, "recall@{}", CUTS[at]);
        }
    }
}
