//! Pages are whole documents, whatever the names in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::evaluate::ScoreTable;
use crate::evaluate::metrics::Scored;
use crate::evaluate::scores::{LeftOut, columns};

const EVIL: &str = "<script>alert('1')</script> & \"co\"";

fn report(names: &[&str], datasets: &[&str]) -> Report {
    let n = 24;
    let mut table = ScoreTable {
        questions: (0..n).map(|at| format!("q{at}")).collect(),
        datasets: (0..n).map(|at| datasets[at % datasets.len()].to_owned()).collect(),
        ..ScoreTable::default()
    };
    for (who, name) in names.iter().enumerate() {
        let scored = |at: usize| Scored {
            f1: Some(((at * (who + 3)) % 7) as f64 / 6.0),
            em: Some(((at * (who + 3)) % 7 / 6) as f64),
            recall_at: Some([0.0, 0.5, 0.5, 1.0, 1.0]),
            k: ((at + who) % 30) as f64,
            context_tokens: (90 * who + at) as f64,
            retrievals: 1.0,
            ..Scored::default()
        };
        table.add(name, columns(&(0..n).map(scored).collect::<Vec<_>>()));
    }
    table.left_out.push(LeftOut {
        of: "everything".to_owned(),
        contender: EVIL.to_owned(),
        reason: "generate".to_owned(),
        questions: 2,
        first: EVIL.to_owned(),
    });
    Report::new(0, table, None).unwrap()
}

/// Every tag is closed in order; `<` and `>` stand for nothing else.
fn check_tags(page: &str) {
    const VOID: [&str; 2] = ["meta", "br"];
    let mut open: Vec<String> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "a stray `>` in {:?}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("an open tag");
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "a `<` inside of `{tag}`");
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "`</{name}>` closes another");
        } else if !tag.ends_with('/') && !tag.starts_with('!') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn a_page_is_well_formed_and_names_everybody_escaped() {
    let names = ["retrieval_k1", "retrieval_k5", EVIL, "ours", "théirs"];
    let report = report(&names, &["set <a>", "b"]);
    let curve = Curve { name: EVIL.to_owned(), points: vec![(0.0, 0.1), (1.0, 0.4)] };
    let page = render(&report, &Extras { curves: vec![curve] }).unwrap();
    check_tags(&page);
    for name in names {
        assert!(page.contains(&escape(name)), "{name}");
    }
    assert!(!page.contains("<script"), "a name became a tag");
    assert!(page.contains("set &lt;a&gt;"));
    // Overall, per data set, the mean of both, training, a histogram for each that is no cut.
    assert_eq!(page.matches("<svg ").count(), 1 + 4 + 3 + 1);
    assert_eq!(page.matches("<title id=").count(), page.matches("<svg ").count());
    for outside in ["http://", "https://", "url(", "@import", " src=", " href="] {
        let allowed = page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
        let found = page.matches(outside).count();
        assert_eq!(found, if outside == "http://" { allowed } else { 0 }, "{outside}");
    }
}

#[test]
fn a_page_of_one_contender_without_answers_or_of_nobody_is_a_page() {
    let mut lonely = report(&["ours"], &["a"]);
    check_tags(&render(&lonely, &Extras::default()).unwrap());
    lonely.scores.contenders[0].runs[0].retain(|name, _| name == "k");
    let bare = Report::new(0, lonely.scores, None).unwrap();
    check_tags(&render(&bare, &Extras::default()).unwrap());
    let nobody = Report::new(0, ScoreTable::default(), None).unwrap();
    check_tags(&render(&nobody, &Extras::default()).unwrap());
}

#[test]
fn control_characters_do_not_reach_the_page() {
    assert_eq!(escape("a\u{0}b\u{1b}<"), "a\u{fffd}b\u{fffd}&lt;");
}
