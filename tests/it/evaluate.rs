//! `regrade evaluate` and `regrade compare` as a user runs them: files in, a table, a report and a
//! page out.

mod bandit_oracle;
mod open_bandit;
mod oracle;

use crate::tiny::{Tiny, command};
use regrade::evaluate::Report;
use regrade::policy::policy_folder;
use regrade::policy::reader::{PairReader, ReaderArgs};
use regrade::policy::serving::first_snapshot;
use serde_json::{Value, json};

/// A world of keys and rooms: passages, questions of two data sets, two untrained policies.
struct World {
    tiny: Tiny,
    passages: String,
    questions: String,
}

impl World {
    fn new(questions: usize) -> Self {
        let tiny = Tiny::new();
        let names = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal"];
        let passage = |n: usize| {
            json!({
                "pid": format!("p{n}"), "title": format!("room {n}"),
                "text": format!("the key of room {n} is with {}", names[n]),
            })
        };
        let question = |n: usize| {
            json!({
                "id": format!("q{n}"), "question": format!("who has the key of room {n}?"),
                "answers": [names[n % 8]], "positives": [format!("p{}", n % 8)],
                "dataset": if n.is_multiple_of(2) { "even" } else { "odd" },
            })
        };
        let lines = |all: Vec<Value>| all.iter().map(|v| format!("{v}\n")).collect::<String>();
        let passages = tiny.file("p.jsonl", &lines((0..8).map(passage).collect()));
        let questions = tiny.file("q.jsonl", &lines((0..questions).map(question).collect()));
        let reader = PairReader::load(&tiny.at("model"), ReaderArgs::default()).unwrap();
        for seed in 0..2 {
            let device = candle_core::Device::Cpu;
            let snapshot = first_snapshot(reader.width(), seed, &device).unwrap();
            policy_folder::write(&tiny.at(&format!("mine-{seed}")), &snapshot).unwrap();
        }
        Self { tiny, passages, questions }
    }

    fn words(&self, arguments: &[&str]) -> Vec<String> {
        let files = ["--questions", &self.questions, "--passages", &self.passages, "--top-n", "5"];
        let own = ["evaluate"].iter().chain(arguments).chain(&files).map(|word| (*word).to_owned());
        own.chain(self.tiny.flags()).collect()
    }

    async fn evaluate(&self, arguments: &[&str]) -> Report {
        let report = self.tiny.text("report.json");
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--report", &report]).collect();
        command(&self.words(&arguments)).await.unwrap();
        self.read("report.json")
    }

    fn read(&self, name: &str) -> Report {
        serde_json::from_slice(&std::fs::read(self.tiny.at(name)).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn policies_of_several_seeds_are_one_contender_beside_the_baselines() {
    let world = World::new(10);
    let (first, second) = (world.tiny.text("mine-0"), world.tiny.text("mine-1"));
    let page = world.tiny.text("page.html");
    let training = json!({ "runs": [{ "seed": 3, "rounds": [
        { "round": 1, "report": { "reward_mean": 0.1 } },
        { "round": 2, "report": { "reward_mean": 0.2 } },
    ] }] });
    let training = world.tiny.file("training.json", &training.to_string());
    let report = world
        .evaluate(&["--policy", &first, &second, "--html", &page, "--training", &training])
        .await;
    let overall: Vec<(&str, usize)> = report
        .policies
        .iter()
        .filter(|row| row.dataset == "all")
        .map(|row| (row.name.as_str(), row.runs))
        .collect();
    let cuts = [("retrieval_k1", 1), ("retrieval_k3", 1), ("retrieval_k5", 1)];
    assert_eq!(overall[..3], cuts);
    assert_eq!(overall[3..], [("untrained", 1), ("mine", 2)]);
    let datasets: Vec<&str> = report
        .policies
        .iter()
        .filter(|row| row.name == "mine")
        .map(|row| row.dataset.as_str())
        .collect();
    assert_eq!(datasets, ["all", "macro", "even", "odd"]);
    let k1 = &report.policies[0];
    assert_eq!((k1.questions, k1.k_mean, k1.k_histogram.as_slice()), (10, 1.0, &[0, 10][..]));
    assert!(
        k1.recall_at_5.is_some() && k1.context_tokens_mean > 0.0 && k1.latency_ms.answer_p95 > 0.0
    );
    assert_eq!(report.scores.questions.len(), 10);
    assert!(report.comparisons.iter().all(|c| c.against.starts_with("retrieval_k")));
    let left_out: Vec<&str> = report.scores.left_out.iter().map(|l| l.of.as_str()).collect();
    assert_eq!(left_out, ["ndcg_at_10"]);
    let page = std::fs::read_to_string(page).unwrap();
    for part in ["mine", "retrieval_k5", "training, seed 3", "macro", "<svg "] {
        assert!(page.contains(part), "{part}");
    }
}

#[tokio::test]
async fn judgements_beside_the_questions_give_ndcg() {
    let world = World::new(4);
    let lines: String = (0..3).map(|n| format!("q{n} 0 p{n} 2\nq{n} 0 p{} 1\n", n + 1)).collect();
    let qrels = world.tiny.file("qrels.txt", &lines);
    let report = world.evaluate(&["--baselines", "retrieval_k2", "--qrels", &qrels]).await;
    let ndcg = report.policies[0].metrics["ndcg_at_10"];
    assert_eq!(ndcg.questions, 3);
    assert!(ndcg.mean > 0.5 && ndcg.mean <= 1.0, "{ndcg:?}");
    let left_out = &report.scores.left_out;
    assert!(left_out.iter().any(|l| l.of == "ndcg_at_10" && l.questions == 1), "{left_out:?}");
}

#[tokio::test]
async fn reports_over_the_same_questions_are_joined_and_compared() {
    let world = World::new(8);
    world.evaluate(&["--baselines", "retrieval_k1,retrieval_k2"]).await;
    std::fs::rename(world.tiny.at("report.json"), world.tiny.at("cuts.json")).unwrap();
    let mine = format!("ours={}", world.tiny.text("mine-0"));
    world.evaluate(&["--baselines", "retrieval_k1", "--policy", &mine]).await;
    let (cuts, ours) = (world.tiny.text("cuts.json"), world.tiny.text("report.json"));
    let (out, page) = (world.tiny.text("joined.json"), world.tiny.text("joined.html"));
    let words = ["compare", &cuts, &ours, "--baseline", "retrieval_k2", "--report", &out];
    let words: Vec<&str> = words.into_iter().chain(["--html", &page]).collect();
    command(&words).await.unwrap();
    let joined = world.read("joined.json");
    assert_eq!(joined.scores.names(), ["retrieval_k1", "retrieval_k2", "ours"]);
    let overall = joined.comparisons.iter().filter(|c| c.dataset == "all");
    let compared: Vec<(&str, &str)> =
        overall.map(|c| (c.name.as_str(), c.against.as_str())).collect();
    assert_eq!(compared, [("retrieval_k1", "retrieval_k2"), ("ours", "retrieval_k2")]);
    for c in &joined.comparisons {
        assert!(c.differences.values().all(|d| d.p_holm >= d.p), "{c:?}");
    }
    assert!(std::fs::read_to_string(page).unwrap().contains("ours"));
    // What was joined can be compared again.
    command(&["compare", out.as_str()]).await.unwrap();
}

#[tokio::test]
async fn reports_over_other_questions_are_refused_unless_the_common_ones_are_asked_for() {
    let world = World::new(8);
    world.evaluate(&["--baselines", "retrieval_k1"]).await;
    std::fs::rename(world.tiny.at("report.json"), world.tiny.at("eight.json")).unwrap();
    world.evaluate(&["--baselines", "retrieval_k2", "--limit", "5"]).await;
    let (eight, five) = (world.tiny.text("eight.json"), world.tiny.text("report.json"));
    let (code, told) = command(&["compare", &eight, &five]).await.unwrap_err();
    assert_eq!(code, 1);
    for part in ["`report`", "3 of 8 are only in `eight`", "0 of 5", "--intersect"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let out = world.tiny.text("common.json");
    command(&["compare", &eight, &five, "--intersect", "--report", &out]).await.unwrap();
    let common = world.read("common.json");
    assert_eq!(common.questions, 5);
    assert_eq!(common.extra["questions_not_common"], 3);
}

#[tokio::test]
async fn what_cannot_be_evaluated_or_compared_is_told_with_the_right_exit_code() {
    let world = World::new(2);
    let report = world.tiny.text("report.json");
    let evaluated = async |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--report", &report]).collect();
        command(&world.words(&arguments)).await.unwrap_err()
    };
    let (code, told) = evaluated(&["--baselines", "magic"]).await;
    assert!(code == 64 && told.contains("`magic`") && told.contains("retrieval_k<K>"), "{told}");
    let (code, told) = evaluated(&["--baselines", "retrieval_k9"]).await;
    assert!(code == 64 && told.contains("from 1 to --top-n, which is 5"), "{told}");
    let against = ["--baselines", "retrieval_k1", "--against", "nobody"];
    let (code, told) = evaluated(&against).await;
    assert!(code == 64 && told.contains("`nobody`"), "{told}");
    world.evaluate(&["--baselines", "retrieval_k1"]).await;
    let compared = async |words: &[&str]| {
        let words: Vec<&str> = ["compare"].iter().chain(words).copied().collect();
        command(&words).await.unwrap_err()
    };
    let (code, told) = compared(&[&report, "--baseline", "nobody"]).await;
    assert!(code == 64 && told.contains("`nobody`") && told.contains("retrieval_k1"), "{told}");
    let (code, told) = compared(&["absent.json"]).await;
    assert!(code == 1 && told.contains("absent.json"), "{told}");
    let none = world.tiny.file("none.json", "{\"runs\": []}");
    let (code, told) = compared(&[&none]).await;
    assert!(code == 1 && told.contains("is not a report of an evaluation"), "{told}");
    let empty = json!({ "questions": 1, "seed": 0, "policies": [], "comparisons": [] });
    let old = world.tiny.file("old.json", &empty.to_string());
    let (code, told) = compared(&[&old]).await;
    assert!(code == 1 && told.contains("no scores of single questions"), "{told}");
}
