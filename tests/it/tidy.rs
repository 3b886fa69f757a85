//! Rules of taste that a program can check: sizes, floors, first lines, banned words.

use std::fs;
use std::path::{Path, PathBuf};

/// Module of the package `actors` or of the root, and its floor: it may import only from below, and
/// from its own subtree. Floors 1 to 4 are in `actors`.
const FLOORS: [(&str, u32); 46] = [
    ("actors::bounds", 0),
    ("actors::clock", 0),
    ("actors::drift", 0),
    ("actors::invariants", 0),
    ("actors::sequential", 0),
    ("actors::telemetry", 0),
    ("actors::types", 0),
    ("actors::compute", 1),
    ("actors::interleaving", 1),
    ("actors::rollout", 1),
    ("actors::ports", 1),
    ("actors::replay", 1),
    ("actors::slot", 1),
    ("actors::tail", 1),
    ("actors::generator", 2),
    ("actors::intake", 2),
    ("actors::judge", 2),
    ("actors::learner", 2),
    ("actors::policy_follower", 2),
    ("actors::promoter", 2),
    ("actors::shadow", 2),
    ("actors::replay_buffer", 2),
    ("actors::reranker", 2),
    ("actors::retriever", 2),
    ("actors::episode", 3),
    ("actors::service", 4),
    // Adapters of every port, and the wiring of a service on them.
    ("actors::fakes", 7),
    ("regrade::chat", 1),
    ("regrade::text", 0),
    ("regrade::retrieval", 1),
    ("regrade::adapters", 5),
    ("regrade::algorithms", 5),
    ("regrade::datasets", 5),
    ("regrade::policy", 5),
    ("regrade::rewards", 5),
    ("regrade::evaluate", 6),
    ("regrade::ingest", 6),
    ("regrade::interchange", 6),
    ("regrade::recipes", 6),
    ("regrade::config", 7),
    ("regrade::wiring", 7),
    ("regrade::bench", 8),
    ("regrade::demo", 8),
    ("regrade::gateway", 8),
    ("regrade::cli", 9),
    ("regrade::main", 10),
];

/// Imports that the floors forbid and that stand for a reason.
const EXCEPTIONS: [(&str, &str, &str); 9] = [
    ("actors::replay", "actors::ports", "its samples are the learner's batches"),
    ("actors::tail", "actors::ports", "it reads the port `EventLog`"),
    ("actors::rollout", "actors::ports", "certificates are sealed through the port `Seal`"),
    ("regrade::adapters", "regrade::rewards", "the reference judge is a blend of rewards"),
    ("regrade::adapters", "regrade::policy", "a chat endpoint ranks the windows of `listwise`"),
    ("regrade::datasets", "regrade::rewards", "the mark of a question without an answer"),
    ("regrade::algorithms", "regrade::policy", "losses are functions of the policy's tensors"),
    ("regrade::wiring", "regrade::config", "the only reader of its sections"),
    ("regrade::recipes", "regrade::evaluate", "the gate compares with its intervals"),
];

/// Folder names that say nothing.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

struct Source {
    /// Below the repository root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// `regrade::config`, `actors::types`, …; `None` for tests, simulations and `lib.rs`.
    fn module(&self) -> Option<String> {
        let (package, rest) = match self.path.strip_prefix("actors/src/") {
            Some(rest) => ("actors", rest),
            None => ("regrade", self.path.strip_prefix("src/")?),
        };
        let name = rest.split('/').next()?.trim_end_matches(".rs");
        (name != "lib").then(|| format!("{package}::{name}"))
    }

    /// The text before the first test module.
    fn production(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "actors", "simulations", "tests"] {
        walk(&root.join(folder), &mut |path| {
            if path.extension().is_some_and(|e| e == "rs") {
                let shown = path.strip_prefix(root).unwrap().display().to_string();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: shown.replace('\\', "/"), text });
            }
        });
    }
    assert!(found.len() > 40, "only {} sources found", found.len());
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(PathBuf)) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { walk(&path, visit) } else { visit(path) }
    }
}

/// Fails with every finding at once.
fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn no_file_is_longer_than_its_limit() {
    let limit = |path: &str| match path {
        "src/main.rs" => 120,
        "actors/src/episode.rs" => 200,
        _ => 400,
    };
    let long = sources().into_iter().filter_map(|source| {
        let (lines, limit) = (source.text.lines().count(), limit(&source.path));
        (lines > limit).then(|| format!("{}: {lines} lines, limit {limit}", source.path))
    });
    none("split these at their second idea", long.collect());
}

#[test]
fn every_file_starts_by_saying_what_it_is() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.text.trim_start().starts_with("//!"))
        .map(|source| source.path);
    none("start these with `//!`", silent.collect());
}

#[test]
fn modules_import_only_from_lower_floors() {
    let floor = |module: &str| FLOORS.iter().find(|(name, _)| *name == module).map(|(_, f)| *f);
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(module) = source.module() else { continue };
        let Some(own) = floor(&module) else {
            findings.push(format!("{}: `{module}` has no floor in FLOORS", source.path));
            continue;
        };
        for import in imports(source) {
            let excused = EXCEPTIONS.iter().any(|(from, to, _)| *from == module && *to == import);
            let allowed = import == module
                || floor(&import).is_none_or(|other| is_below(own, other))
                    && !(own == 6 && import == "regrade::adapters");
            if !allowed && !excused {
                findings.push(format!("{}: `{module}` imports `{import}`", source.path));
            }
        }
    }
    none("imports go down a floor at least", findings);
}

/// Models, losses, adapters and recipes know the words and the ports, no actor.
fn is_below(own: u32, other: u32) -> bool {
    other < own && !(matches!(own, 5 | 6) && matches!(other, 2..=4))
}

/// The modules named by `use` lines and paths of production code.
fn imports(source: &Source) -> Vec<String> {
    let crate_name = if source.path.starts_with("actors/") { "actors" } else { "regrade" };
    let mut found = Vec::new();
    for line in source.production().lines().filter(|l| !l.trim_start().starts_with("//")) {
        for (lead, package) in
            [("crate::", crate_name), ("actors::", "actors"), ("regrade::", "regrade")]
        {
            for (at, _) in line.match_indices(lead) {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let rest = &line[at + lead.len()..];
                let name: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push(format!("{package}::{name}"));
            }
        }
    }
    found
}

#[test]
fn only_wiring_names_an_adapter() {
    // The sections of `config` hold the adapters' own settings; their types come from there.
    let allowed = ["src/wiring", "src/config", "src/adapters"];
    let named = sources()
        .into_iter()
        .filter(|s| s.path.starts_with("src/") && !allowed.iter().any(|a| s.path.starts_with(a)))
        .filter(|s| imports(s).iter().any(|import| import == "regrade::adapters"))
        .map(|s| s.path);
    none("open these through `wiring`", named.collect());
}

#[test]
fn calls_that_break_a_run_stay_out_of_production_code() {
    let banned = [
        "println!(",
        "print!(",
        "eprintln!(",
        "dbg!(",
        "todo!(",
        "unimplemented!(",
        "thread::sleep",
        "process::exit",
    ];
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| !s.is_test() && s.path.contains("src/")) {
        for (number, line) in source.production().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            findings.extend(
                banned
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{}:{}: {word}", source.path, number + 1)),
            );
        }
    }
    none("these are banned outside tests", findings);
}

#[test]
fn threads_are_started_in_one_place_only() {
    let started = sources()
        .into_iter()
        .filter(|s| s.path != "actors/src/compute.rs" && !s.is_test())
        .filter(|s| s.production().contains("std::thread"))
        .map(|s| s.path);
    none("model work runs in `actors::compute`", started.collect());
}

#[test]
fn nothing_is_exported_by_a_star() {
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("pub use ") && line.trim_end().ends_with("::*;") {
                findings.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    none("name what is exported", findings);
}

#[test]
fn folders_and_files_are_named_after_what_they_hold() {
    let empty = sources().into_iter().map(|s| s.path).filter(|path| {
        path.split('/').any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")))
    });
    none("find these a noun", empty.collect());
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let places = ["/root", "/home", "/work", "/Users"].map(|place| format!("{place}/"));
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| !s.path.ends_with("tidy.rs")) {
        for (number, line) in source.text.lines().enumerate() {
            if places.iter().any(|place| line.contains(&format!("\"{place}"))) {
                findings.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    none("paths come from the configuration", findings);
}

/// Every metric that this program may show.
pub(crate) fn metrics() -> impl Iterator<Item = &'static str> {
    let own = [
        regrade::gateway::REQUESTS_TOTAL,
        regrade::gateway::REQUEST_DURATION_SECONDS,
        regrade::adapters::index_qdrant::WRITTEN_TOTAL,
    ];
    let remote = regrade::adapters::resilience::METRICS;
    let tables = actors::telemetry::METRICS.iter().chain(actors::telemetry::ADAPTER_METRICS);
    let chat = regrade::chat::METRICS
        .into_iter()
        .chain(regrade::adapters::generator_http::METRICS)
        .chain(regrade::adapters::generator_fallback::METRICS)
        .chain(regrade::adapters::judge_http::METRICS)
        .chain(regrade::adapters::rewriter_http::METRICS);
    let dense = regrade::retrieval::telemetry::METRICS;
    tables.map(|(name, ..)| *name).chain(own).chain(remote).chain(chat).chain(dense)
}

#[test]
fn every_metric_is_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(readme) = fs::read_to_string(root.join("README.md")) else {
        println!("skipped: there is no README.md yet");
        return;
    };
    let missing = metrics().filter(|name| !readme.contains(*name)).map(str::to_owned);
    none("add these to the table of metrics in README.md", missing.collect());
}
