//! What `deploy/` says of the service is true of it: metrics, routes, settings.

use regrade::config::{Config, Layers};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    let path = deploy().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file below a folder of `deploy/` with one of the extensions, as `(name, text)`.
fn files(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![deploy().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if extensions.contains(&extension) {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "nothing below deploy/{folder}");
    found
}

/// Words of a text that start with `lead` and go on with characters of names.
fn words<'t>(text: &'t str, lead: &str) -> BTreeSet<&'t str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with(lead)).collect()
}

#[test]
fn every_metric_that_is_drawn_or_alerts_is_one_that_the_service_writes() {
    let known: BTreeSet<&str> = crate::tidy::metrics().collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (folder, extension) in [("grafana", "json"), ("prometheus", "yml"), ("kubernetes", "yaml")]
    {
        for (file, text) in files(folder, &[extension]) {
            for word in words(&text, "regrade_") {
                let series = ["_bucket", "_sum", "_count"];
                let base = series.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
                match [word, base].into_iter().find(|name| known.contains(name)) {
                    Some(name) => drop(used.insert(name.to_owned())),
                    None => wrong.push(format!("{file}: {word}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "nothing writes these:\n  {}", wrong.join("\n  "));
    assert!(used.len() > 20, "only {} metrics are used", used.len());
}

#[test]
fn the_dashboard_has_its_rows_and_every_panel_asks_something() {
    let text = read("grafana/dashboards/regrade.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut rows = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "`{title}` shares its id");
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "`{title}` asks nothing");
        for target in targets {
            let expr = target["expr"].as_str().unwrap();
            let (open, closed) = (expr.matches('(').count(), expr.matches(')').count());
            assert!(open == closed && expr.contains("regrade"), "{title}: {expr}");
        }
    }
    let expected = [
        "Traffic",
        "Latency",
        "Decisions",
        "Rewards",
        "Learning and swaps",
        "Log",
        "Errors",
        "Promotion",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn probes_ask_routes_that_exist() {
    let gateway = fs::read_to_string(deploy().join("../src/gateway.rs")).unwrap();
    let mut asked = BTreeSet::new();
    let mut texts = files("kubernetes", &["yaml"]);
    texts.push(("compose.yaml".to_owned(), read("compose.yaml")));
    texts.push(("Dockerfile".to_owned(), read("Dockerfile")));
    for (_, text) in &texts {
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ']' | ',' | '}');
        for (at, _) in text.match_indices("/health/") {
            asked.insert(text[at..].split(ends).next().unwrap().to_owned());
        }
    }
    assert!(asked.contains("/health/live") && asked.contains("/health/ready"), "{asked:?}");
    for route in asked {
        assert!(gateway.contains(&format!(".route(\"{route}\"")), "no route `{route}`");
    }
}

/// What Compose puts for `${NAME:-default}` where nothing is set.
fn default_of(value: &str) -> &str {
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.and_then(|inner| inner.split_once(":-")).map_or(value, |(_, default)| default)
}

#[test]
fn the_settings_of_the_containers_are_settings_of_the_service() {
    let cluster = deploy().join("../configs/cluster.toml");
    for file in ["compose.yaml", "kubernetes/config.yaml"] {
        let text = read(file);
        let env: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .filter(|(name, _)| name.starts_with("REGRADE__"))
            .map(|(name, value)| (name.to_owned(), default_of(value.trim_matches('"')).to_owned()))
            .collect();
        assert!(env.len() >= 3, "{file} sets {} settings", env.len());
        let layers = Layers { files: vec![cluster.clone()], env, ..Layers::default() };
        Config::load(&layers).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

#[test]
fn images_are_pinned_and_nothing_secret_is_written_down() {
    let mut texts = files("kubernetes", &["yaml"]);
    texts.push(("compose.yaml".to_owned(), read("compose.yaml")));
    texts.push(("Dockerfile".to_owned(), read("Dockerfile")));
    let mut wrong = Vec::new();
    for (file, text) in &texts {
        for line in text.lines().map(str::trim) {
            let image = line.strip_prefix("image: ").or_else(|| line.strip_prefix("- image: "));
            if image.is_some_and(|image| !image.contains(':') || image.ends_with(":latest")) {
                wrong.push(format!("{file}: {line}: give the image a tag"));
            }
            let secret =
                ["ACCESS_KEY: ", "PASSWORD: ", "API_KEY: "].iter().any(|s| line.contains(s));
            // A variable of the caller's, or the key of a Secret, is no secret.
            if secret && !line.contains("${") && !line.starts_with('#') {
                wrong.push(format!("{file}: {line}: take it from the environment or a Secret"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
