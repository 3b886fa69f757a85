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

pub(crate) fn error(text: &str) -> String {
    load(&[text], &[], &[]).unwrap_err()
}

#[test]
fn every_shipped_configuration_loads() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
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
    a.toml:2:1: unknown field `bindd`, expected one of `bind`, `max_body_bytes`, `operator_token_env`, `max_query_chars`, `max_documents`, `request_deadline_ms`, `drain_deadline_ms`
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
fn a_credential_in_a_file_is_refused_and_not_shown() {
    let file = "[snapshots]\nurl = \"s3://b/p\"\n[snapshots.options]\n\
                region = \"eu-west-1\"\nsecret_access_key = \"hunter2\"\n";
    insta::assert_snapshot!(error(file), @r"
    a.toml:5:21: `snapshots.options.secret_access_key`: `secret_access_key` is a credential: give it in the environment as `AWS_SECRET_ACCESS_KEY`, never in a file
      |
    5 | secret_access_key = …
      |                     ^
      = remove it here
    ");
    let allowed = "[snapshots]\nurl = \"s3://b/p\"\n[snapshots.options]\nallow_http = true\n";
    let config = load(&[allowed], &[], &[]).unwrap();
    assert_eq!(config.snapshots.options.0["allow_http"], "true");
    let variable = [("REGRADE__SNAPSHOTS__OPTIONS__ENDPOINT", "http://127.0.0.1:9000")];
    let config = load(&[allowed], &variable, &[]).unwrap();
    assert_eq!(config.snapshots.options.0["endpoint"], "http://127.0.0.1:9000");
    let told = error("[snapshots.options]\nregion = \"x\"\n");
    assert!(told.contains("a.toml:2:10: `snapshots.options.region`: a folder has no"), "{told}");
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

#[test]
fn settings_of_another_kind_of_index_are_refused() {
    insta::assert_snapshot!(error("[index.qdrant]\nurl = \"http://elsewhere:6334\"\n"), @r#"
    a.toml:1:1: `index.qdrant`: has no effect: only `index.kind = "qdrant"` asks a server
      |
    1 | [index.qdrant]
      | ^^^^^^^^^^^^^^
      = remove `index.qdrant`
    "#);
    insta::assert_snapshot!(error("[index]\nkind = \"qdrant\"\n[index.search]\nk1 = 1.2\n"), @r#"
    a.toml:3:1: `index.search`: has no effect: `index.kind = "qdrant"` has its settings in `index.qdrant`
      |
    3 | [index.search]
      | ^^^^^^^^^^^^^^
      = remove `index.search`
    "#);
}

#[test]
fn settings_of_the_index_server_have_bounds() {
    let with =
        |setting: &str| error(&format!("[index]\nkind = \"qdrant\"\n[index.qdrant]\n{setting}\n"));
    insta::assert_snapshot!(with("url = \"localhost:6334\""), @r#"
    a.toml:4:7: `index.qdrant.url`: expected `http://host:6334`, or `https://…` for TLS
      |
    4 | url = "localhost:6334"
      |       ^^^^^^^^^^^^^^^^
      = change `index.qdrant.url`, or leave it out for the default
    "#);
    insta::assert_snapshot!(with("retry = { attempts_max = 0 }"), @r#"
    a.toml:4:26: `index.qdrant.retry.attempts_max`: expected a number of at least 1
      |
    4 | retry = { attempts_max = 0 }
      |                          ^
      = change `index.qdrant.retry.attempts_max`, or leave it out for the default
    "#);
    insta::assert_snapshot!(with("search_deadline_ms = 5000"), @r#"
    a.toml:4:22: `index.qdrant.search_deadline_ms`: a search may take 5000 ms, but is cut off after 2000 ms without a reason
      |
    4 | search_deadline_ms = 5000
      |                      ^^^^
      = raise `service.retriever.deadline_ms`, or lower `index.qdrant.search_deadline_ms`
    "#);
    for (setting, expected) in [
        ("collection = \"a/b\"", "expected a name without slashes and spaces"),
        ("api_key_env = \"\"", "expected the name of an environment variable"),
        ("filter_fields = [\"a.b\"]", "expected names of letters, digits, `_` and `-`"),
        ("k1 = -1.0", "expected a number ≥ 0"),
        ("b = 1.5", "expected a number from 0 to 1"),
        ("average_length = 0.0", "expected a number above 0"),
        ("batch = 2000", "expected a number from 1 to 1024"),
        ("prefetch = 0", "expected a number of at least 1"),
        ("breaker = { cooldown_ms = 0 }", "expected a number of at least 1"),
        ("pefetch = 3", "did you mean `prefetch`?"),
    ] {
        let told = with(setting);
        assert!(told.contains(expected) && told.contains("a.toml:4:"), "{told}");
    }
}

#[test]
fn a_resolved_configuration_of_every_kind_of_index_loads_again() {
    for kind in ["embedded", "memory", "qdrant"] {
        let config = load(&[&format!("[index]\nkind = \"{kind}\"\n")], &[], &[]).unwrap();
        let again = load(&[&config.to_toml().unwrap()], &[], &[]);
        assert_eq!(again.as_ref(), Ok(&config));
    }
}

#[test]
fn an_endpoint_that_a_kind_needs_must_be_there_and_one_that_none_needs_must_not() {
    insta::assert_snapshot!(error("[generator]\nkind = \"http\"\n"), @r#"
    a.toml:2:8: `generator.kind`: needs the section `[generator.http]`
      |
    2 | kind = "http"
      |        ^^^^^^
      = add `[generator.http]`: it names the server and the model
    "#);
    let http = "[generator.http.endpoint]\nurl = \"http://h/v1\"\n";
    let judge = "[judge]\nkind = \"llm\"\n[judge.weights]\njudge = 1.0\n[judge.llm]\n";
    for (text, told) in [
        (http.to_owned(), "`generator.http`: has no effect"),
        (
            "[generator.fallback]\nkind = \"reader\"\n".to_owned(),
            "`generator.fallback`: has no effect",
        ),
        ("[judge.llm]\nvotes = 3\n".to_owned(), "`judge.llm`: has no effect"),
        ("[judge.weights]\njudge = 1.0\n".to_owned(), "`judge.weights.judge`: has no effect"),
        (
            "[judge]\nkind = \"llm\"\n[judge.llm]\n".to_owned(),
            "`judge.weights.judge`: expected a number above 0",
        ),
        ("[rewrite.llm]\nseed = 1\n".to_owned(), "`rewrite.llm`: has no effect"),
        (
            "[rewrite]\nkind = \"hyde\"\n".to_owned(),
            "`rewrite.kind`: needs the section `[rewrite.llm]`",
        ),
        (
            format!("[generator]\nkind = \"http\"\nmodel = \"m\"\n{http}"),
            "`generator.model`: has no effect",
        ),
        (
            format!("[generator]\nkind = \"http\"\n[generator.fallback]\nafter_ms = 30000\n{http}"),
            "`generator.fallback.after_ms`: expected a number above 0, below",
        ),
        (
            format!(
                "[generator]\nkind = \"http\"\n[generator.fallback]\nkind = \"endpoint\"\n{http}"
            ),
            "`generator.fallback.kind`: needs the section `[generator.fallback.endpoint]`",
        ),
        (
            format!("[generator]\nkind = \"http\"\n{http}attempts_max = 0\n"),
            "`generator.http.endpoint.attempts_max`",
        ),
        (
            format!("{judge}votes = 3\n"),
            "`judge.llm.temperature`: expected a number above 0: without chance",
        ),
        (
            format!("{judge}[judge.llm.endpoint]\ndeadline_ms = 30000\n"),
            "`judge.llm.endpoint.deadline_ms`: 30000 is not below",
        ),
        (
            format!("{judge}[judge.llm.budget]\nmoney_per_day = 1.0\n"),
            "`judge.llm.budget.money_per_day`: expected to be left out",
        ),
        (
            format!("{judge}[judge.llm.budget]\ntoken_per_day = 1\n"),
            "unknown field `token_per_day`",
        ),
    ] {
        let found = error(&text);
        assert!(found.contains(told), "{text}\n{found}");
    }
    let config = load(&[&format!("{judge}votes = 3\ntemperature = 0.7\n")], &[], &[]).unwrap();
    let again = load(&[&config.to_toml().unwrap()], &[], &[]).unwrap();
    assert_eq!(config, again, "what is resolved loads again");
}

#[test]
fn the_configuration_in_the_readme_loads() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        load(&[block], &[], &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn an_answer_head_and_a_memory_are_settings_of_the_generator() {
    let text = "[generator]\nanswer_head = \"head\"\nlong_words_max = 50\nmemory = [\"q.jsonl\"]\n\
                [generator.memory_limits]\nsimilarity_min = 0.8\n[judge.weights]\nsimilarity = 0.5\n";
    let config = load(&[text], &[], &[]).unwrap();
    assert_eq!(config.generator.long_words_max, 50);
    assert_eq!(config.judge.weights.similarity, 0.5);
    assert_eq!(load(&[&config.to_toml().unwrap()], &[], &[]).unwrap(), config);
    for (text, expected) in [
        ("[generator]\nlong_words_max = 50\n", "only an answer head"),
        ("[generator.memory_limits]\nentries_max = 5\n", "there is no memory without files"),
        (
            "[generator]\nmemory = [\"q\"]\n[generator.memory_limits]\nsimilarity_min = 1.5\n",
            "expected a number from 0 to 1",
        ),
        ("[generator]\nanswer_head = \" \"\n", "`generator.answer_head`: is empty"),
        ("[judge.weights]\nsimilarity = -0.5\n", "weight `similarity` is -0.5"),
    ] {
        let found = error(text);
        assert!(found.contains(expected), "{found}");
    }
}
