//! Configuration: every shipped file loads, every layer wins over the one below, every error text
//! is pinned.

use regrade::config::{Config, Layers};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Loads files of the given contents, `a.toml` below `b.toml`, with variables and flags over them.
fn load(
    files: &[&str],
    env: &[(&str, &str)],
    flags: &[(&str, &str, &str)],
) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .zip(["a.toml", "b.toml"])
        .map(|(text, name)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let layers = Layers {
        files: paths,
        env: env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        flags: flags
            .iter()
            .map(|(f, k, v)| ((*f).to_owned(), (*k).to_owned(), (*v).to_owned()))
            .collect(),
    };
    let shown = format!("{}/", folder.path().display());
    Config::load(&layers).map_err(|e| e.to_string().replace(&shown, ""))
}

fn error(text: &str) -> String {
    load(&[text], &[], &[]).unwrap_err()
}

#[test]
fn every_shipped_configuration_loads() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let layers = Layers { files: vec![path.clone()], ..Layers::default() };
        Config::load(&layers).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count += 1;
    }
    assert!(count >= 2, "configs/ holds {count} files");
}

#[test]
fn the_resolved_file_loads_to_the_same_configuration() {
    let config = load(&["[service]\ntop_n = 7\n"], &[], &[]).unwrap();
    let again = load(&[&config.to_toml().unwrap()], &[], &[]).unwrap();
    assert_eq!(config, again);
    assert_eq!(config.digest().unwrap(), again.digest().unwrap());
    assert_ne!(config.digest().unwrap(), Config::default().digest().unwrap());
}

#[test]
fn a_later_layer_wins_over_an_earlier_one() {
    let files = ["[service]\ntop_n = 1\n[service.limits]\nk_max = 2\n", "[service]\ntop_n = 3\n"];
    let top_n = |env: &[_], flags: &[_]| load(&files, env, flags).unwrap().service.top_n;
    assert_eq!(top_n(&[], &[]), 3);
    assert_eq!(top_n(&[("REGRADE__SERVICE__TOP_N", "4")], &[]), 4);
    let flag = ("--set service.top_n", "service.top_n", "5");
    assert_eq!(top_n(&[("REGRADE__SERVICE__TOP_N", "4")], &[flag]), 5);
    assert_eq!(load(&files, &[], &[]).unwrap().service.limits.k_max, 2);
}

#[test]
fn text_in_a_variable_needs_no_quotes_even_where_it_looks_like_a_number() {
    let config = load(&[], &[("REGRADE__SNAPSHOTS__URL", "2026")], &[]).unwrap();
    assert_eq!(config.snapshots.url, "2026");
}

#[test]
fn a_variant_that_changes_takes_its_old_settings_with_it() {
    let sampled = "[service.exploration]\nmode = \"sample\"\ntemperature = 2.0\nepsilon = 0.1\n";
    let greedy = "[service.exploration]\nmode = \"greedy\"\n";
    let config = load(&[sampled, greedy], &[], &[]).unwrap();
    assert_eq!(config.service.exploration, actors::types::Exploration::Greedy);
}

#[test]
fn a_typo_names_the_setting_that_was_meant() {
    insta::assert_snapshot!(error("[server]\nbindd = \"127.0.0.1:1\"\n"), @r#"
    a.toml:2:1: unknown field `bindd`, expected one of `bind`, `max_body_bytes`, `max_query_chars`, `max_documents`, `request_deadline_ms`, `drain_deadline_ms`
      |
    2 | bindd = "127.0.0.1:1"
      | ^^^^^
      = did you mean `bind`?
    "#);
}

#[test]
fn a_wrong_type_points_at_the_value() {
    insta::assert_snapshot!(error("[server]\n  max_body_bytes = \"lots\"\n"), @r#"
    a.toml:2:20: invalid type: string "lots", expected usize
      |
    2 |   max_body_bytes = "lots"
      |                    ^^^^^^
      = give `server.max_body_bytes` a value of the expected type
    "#);
}

#[test]
fn an_impossible_bound_points_at_the_value_that_was_set() {
    insta::assert_snapshot!(error("[service.limits]\nk_min = 40\n"), @r"
    a.toml:2:9: `service.limits.k_min`: 40 is above k_max 10
      |
    2 | k_min = 40
      |         ^^
      = change `service.limits.k_min`, or leave it out for the default
    ");
    insta::assert_snapshot!(error("[server]\nmax_documents = 0\n"), @r"
    a.toml:2:17: `server.max_documents`: expected a number above 0
      |
    2 | max_documents = 0
      |                 ^
      = give `server.max_documents` a value above 0, or leave it out for the default
    ");
}

#[test]
fn a_setting_without_effect_is_refused() {
    insta::assert_snapshot!(error("[index]\nkind = \"memory\"\nfolder = \"here\"\n"), @r#"
    a.toml:3:10: `index.folder`: has no effect: `index.kind = "memory"` keeps nothing on disk
      |
    3 | folder = "here"
      |          ^^^^^^
      = remove `index.folder`
    "#);
}

#[test]
fn settings_of_an_embedder_that_is_not_used_are_refused() {
    insta::assert_snapshot!(error("[index.dense]\ndepth = 50\n"), @r"
    a.toml:1:1: `index.dense`: has no effect: there are no vectors without `index.embedder`
      |
    1 | [index.dense]
      | ^^^^^^^^^^^^^
      = remove `index.dense`
    ");
    let http = "[index.embedder]\nkind = \"local\"\n[index.embedder.local]\nmodel = \"m\"\n\
                [index.embedder.http]\ntimeout_ms = 5\n";
    let told = error(http);
    assert!(told.contains("`index.embedder.http`: has no effect"), "{told}");
}

#[test]
fn an_embedder_without_its_model_is_told_what_it_needs() {
    insta::assert_snapshot!(error("[index.embedder]\nkind = \"http\"\n"), @r#"
    a.toml:2:8: `index.embedder.http.url`: expected the base of the interface, as in `http://127.0.0.1:8080/v1`
      |
    2 | kind = "http"
      |        ^^^^^^
      = set `index.embedder.http.url`
    "#);
    let local = error("[index.embedder]\nkind = \"local\"\n");
    assert!(local.contains("`index.embedder.local.model`: expected the folder"), "{local}");
    let good = "[index.embedder]\nkind = \"http\"\n[index.embedder.http]\nmodel = \"m\"\n\
                url = \"https://example.org/v1\"\ndimension = 384\nencoding = \"base64\"\n";
    let config = load(&[good], &[], &[]).unwrap();
    assert_eq!(config.index.embedder.http.dimension, 384);
    assert_eq!(load(&[&config.to_toml().unwrap()], &[], &[]).unwrap(), config);
}

#[test]
fn an_error_from_a_variable_names_the_variable() {
    let env = [("REGRADE__SERVER__MAX_DOCUMENTS", "many")];
    insta::assert_snapshot!(load(&[], &env, &[]).unwrap_err(), @r#"
    REGRADE__SERVER__MAX_DOCUMENTS: invalid type: string "many", expected usize
     |
     | REGRADE__SERVER__MAX_DOCUMENTS=many
     |                                ^^^^
     = give `server.max_documents` a value of the expected type
    "#);
    let unknown = load(&[], &[("REGRADE__SERVER__PORT", "1")], &[]).unwrap_err();
    assert!(unknown.starts_with("REGRADE__SERVER__PORT: unknown field `port`"), "{unknown}");
}

#[test]
fn broken_toml_and_a_missing_file_say_where() {
    let broken = error("[server\nbind = 1\n");
    assert!(broken.starts_with("a.toml:1:"), "{broken}");
    assert!(broken.contains("not valid TOML"), "{broken}");
    let layers = Layers { files: vec!["no/such.toml".into()], ..Layers::default() };
    let missing = Config::load(&layers).unwrap_err().to_string();
    assert!(missing.contains("`no/such.toml`"), "{missing}");
}

#[test]
fn all_bounds_that_are_broken_are_told_at_once() {
    let told = error("[server]\nmax_documents = 0\nrequest_deadline_ms = 0\n");
    assert!(told.contains("a.toml:2:17") && told.contains("a.toml:3:23"), "{told}");
}
