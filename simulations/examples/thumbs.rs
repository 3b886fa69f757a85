#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unused,
    unreachable_pub,
    clippy::too_many_lines
)]
use actors::ports::*;
use actors::types::*;
use candle_core::Device;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use regrade::policy::selection::{Masks, select};
use regrade::policy::serving;
use regrade::recipes::online::{OnlineConfig, OnlineLearner};
use std::sync::Arc;

struct Q {
    states: CandidateStates,
    f1: Vec<f32>,
    margin: Vec<f32>,
    tokens: Vec<u32>,
    rel: Vec<f32>,
}
fn load(name: &str) -> (usize, Vec<Q>) {
    let h: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(format!("/work/worlds/{name}.json")).unwrap(),
    )
    .unwrap();
    let ns: Vec<usize> = ["n", "per_question_n", "candidates", "n_candidates"]
        .iter()
        .find_map(|k| h.get(*k).and_then(|v| v.as_array()))
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect();
    let (w, e) = (h["width"].as_u64().unwrap() as usize, h["embedding"].as_u64().unwrap() as usize);
    let raw = std::fs::read(format!("/work/worlds/{name}.bin")).unwrap();
    let f: Vec<f32> =
        raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let tot: usize = ns.iter().sum();
    let (st, rest) = f.split_at(tot * w);
    let part = |i: usize| &rest[i * tot..(i + 1) * tot];
    let mut p = 0;
    let mut out = vec![];
    for n in ns {
        if n > 0 {
            out.push(Q {
                states: CandidateStates::new(w, st[p * w..(p + n) * w].to_vec()).unwrap(),
                f1: part(0)[p..p + n].to_vec(),
                margin: part(1)[p..p + n].to_vec(),
                tokens: part(2)[p..p + n].iter().map(|t| *t as u32).collect(),
                rel: part(3)[p..p + n].to_vec(),
            });
        }
        p += n;
    }
    (e, out)
}
impl Q {
    fn widest(&self, order: &[u32]) -> Option<usize> {
        order.iter().map(|&j| j as usize).max_by(|&a, &b| self.margin[a].total_cmp(&self.margin[b]))
    }
    fn reward(&self, order: &[u32]) -> f64 {
        self.widest(order).map_or(0.0, |j| f64::from(self.f1[j]))
    }
}
struct Env(Arc<Vec<Q>>);
impl Environment for Env {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        trials
            .iter()
            .map(|t| {
                let q: usize = t.query.id.as_str().parse().unwrap();
                let order: Vec<u32> =
                    t.documents.iter().map(|d| d.id.as_str().parse().unwrap()).collect();
                Ok(reward(self.0[q].reward(&order)))
            })
            .collect()
    }
}
fn reward(v: f64) -> Reward {
    Reward { total: v, parts: vec![] }
}
fn logits(
    head: &regrade::policy::head::Head,
    s: &CandidateStates,
) -> regrade::policy::selection::SelectionLogits {
    use candle_core::{DType, Tensor};
    let (n, w) = (s.rows(), s.width());
    let x = Tensor::from_slice(s.values(), (1, n, w), &Device::Cpu).unwrap();
    let present = Tensor::ones((1, n), DType::F32, &Device::Cpu).unwrap();
    head.forward(&x, &present).unwrap().logits(0, n).unwrap()
}
fn limits() -> SelectionLimits {
    SelectionLimits { k_min: 1, k_max: 5, token_budget: 1024 }
}
fn evaluate(head: &regrade::policy::head::Head, qs: &[Q], ids: &[usize]) -> (f64, f64) {
    let mut rng = StdRng::seed_from_u64(0);
    let (mut f, mut k) = (0.0, 0.0);
    for &i in ids {
        let q = &qs[i];
        let s = select(
            &logits(head, &q.states),
            Masks { tokens: &q.tokens, limits: limits() },
            Exploration::Greedy,
            &mut rng,
        )
        .unwrap();
        f += q.reward(&s.order);
        k += s.order.len() as f64;
    }
    (100.0 * f / ids.len() as f64, k / ids.len() as f64)
}
fn main() {
    let var = |k: &str, d: &str| std::env::var(k).unwrap_or(d.to_owned());
    let (e, qs) = load(&var("WORLD", "nq-gold"));
    let qs = Arc::new(qs);
    let seeds: u64 = var("SEEDS", "2").parse().unwrap();
    let marks: Vec<usize> =
        var("MARKS", "1000,3000,10000").split(',').map(|s| s.parse().unwrap()).collect();
    let every: Vec<usize> = var("UPDATES", "500,1000,1500,2000,3000,4500,6000,8000,10000")
        .split(',')
        .map(|s| s.parse().unwrap())
        .collect();
    let noise = var("NOISE", "0") == "1";
    let answer: f64 = var("ANSWER", "0.3").parse().unwrap();
    let exploration: Exploration = serde_json::from_str(&var(
        "EXPLORE",
        r#"{"mode":"sample","temperature":1.0,"epsilon":0.05}"#,
    ))
    .unwrap();
    let verbose = var("VERBOSE", "0") == "1";
    let config: OnlineConfig =
        serde_json::from_str(&var("CONFIG", r#"{"objective":"dr"}"#)).unwrap();
    let holdout: f64 = var("HOLDOUT", "0.25").parse().unwrap();
    let (train, test): (Vec<usize>, Vec<usize>) = (0..qs.len()).partition(|i| (i * 7919) % 10 < 6);
    let best: f64 =
        test.iter().map(|&i| f64::from(qs[i].f1.iter().copied().fold(0.0, f32::max))).sum::<f64>()
            / test.len() as f64;
    let fixed: Vec<String> = [1usize, 3, 5, 10]
        .iter()
        .map(|&k| {
            format!(
                "k{k} {:.1}",
                100.0
                    * test
                        .iter()
                        .map(|&i| {
                            let o: Vec<u32> = (0..k.min(qs[i].f1.len()) as u32).collect();
                            qs[i].reward(&o)
                        })
                        .sum::<f64>()
                    / test.len() as f64
            )
        })
        .collect();
    println!(
        "train {} test {} best single {:.1} fixed {:?}",
        train.len(),
        test.len(),
        100.0 * best,
        fixed
    );
    for seed in 0..seeds {
        let t0 = std::time::Instant::now();
        let first = serving::first_snapshot(e, seed, &Device::Cpu).unwrap();
        let mut champion = first.clone();
        let mut learner = OnlineLearner::new(
            OnlineConfig { seed, ..config.clone() },
            &first,
            Arc::new(Env(Arc::clone(&qs))),
            Device::Cpu,
        )
        .unwrap();
        let mut rng = StdRng::seed_from_u64(1000 + seed);
        let mut head = serving::from_snapshot(&champion, &Device::Cpu).unwrap().head;
        let (mut samples, mut silent): (Vec<Sample>, Vec<Episode>) = (vec![], vec![]);
        let mut version = 0;
        let (f, k) = evaluate(&head, &qs, &test);
        let mut line = format!("seed {seed}: frozen {f:.1} k {k:.2} |");
        let last = *marks.last().unwrap();
        let (mut explored, mut ex_r, mut gr_r) = (0, 0.0, 0.0);
        for t in 1..=last {
            let i = train[rng.random_range(0..train.len())];
            let q = &qs[i];
            let l = logits(&head, &q.states);
            let masks = Masks { tokens: &q.tokens, limits: limits() };
            let s = select(&l, masks, exploration, &mut rng).unwrap();
            let g = select(&l, masks, Exploration::Greedy, &mut rng).unwrap();
            let r = q.reward(&s.order);
            ex_r += r;
            gr_r += q.reward(&g.order);
            let deviates = s.order != g.order;
            explored += usize::from(deviates);
            let mut up = rng.random_bool(r.clamp(0.0, 1.0)) ^ rng.random_bool(0.1);
            if noise {
                up = rng.random_bool(0.5);
            }
            let cited = q.widest(&s.order).map(|j| DocumentId::from(j.to_string().as_str()));
            let decision = Decision {
                id: DecisionId(format!("{t:07}")),
                gate: Gate::Retrieve,
                rewrite: 0,
                order: s.order,
                step_log_probs: s.step_log_probs,
                scores: l.scores.iter().map(|v| *v as f32).collect(),
                exploration,
                deviates: Some(deviates),
                limits: limits(),
                candidate_tokens: q.tokens.clone(),
                states: q.states.clone(),
                policy: PolicyStamp { version: champion.version, digest: champion.digest.clone() },
            };
            let candidates = (0..q.f1.len())
                .map(|j| Candidate {
                    document: Document { id: j.to_string().as_str().into(), ..Default::default() },
                    score: 0.0,
                    rank: j as u32,
                })
                .collect();
            let answer_text = Answer {
                text: "a b".into(),
                citations: cited.into_iter().collect(),
                ..Default::default()
            };
            let episode = Episode {
                schema: 1,
                query: Query {
                    id: i.to_string().as_str().into(),
                    text: format!("question {i}"),
                    ..Default::default()
                },
                rewrites: vec![],
                candidates,
                decision: Some(decision),
                outcome: Outcome::Answered { answer: answer_text },
                degraded: None,
                assignment: None,
                interleaved: None,
                unusable_for_ope: None,
                finished_ms: t as u64 * 1000,
                duration_ms: 0,
            };
            if rng.random_bool(answer) {
                samples.push(Sample {
                    episode,
                    reward: reward(
                        if config.objective == regrade::recipes::online::Objective::Rrpo {
                            r
                        } else {
                            f64::from(u8::from(up))
                        },
                    ),
                    references: vec!["x".into()],
                });
            } else {
                silent.push(episode);
            }
            if every.contains(&t) {
                version += 1;
                let cut = samples.len() - (samples.len() as f64 * holdout) as usize;
                let batch = Batch {
                    train: samples[..cut].to_vec(),
                    holdout: samples[cut..].to_vec(),
                    unanswered: silent.clone(),
                    ..Default::default()
                };
                let u = std::time::Instant::now();
                match learner.update(&batch, PolicyVersion(version)) {
                    Ok((snapshot, report)) => {
                        let x = learner.examine(&snapshot, &batch.holdout).unwrap();
                        let h = serving::from_snapshot(&snapshot, &Device::Cpu).unwrap().head;
                        let (f, k) = evaluate(&h, &qs, &test);
                        let (tf, _) = evaluate(&h, &qs, &train);
                        if verbose {
                            println!(
                                "  t {t} {:.1}s candidate test {f:.1} train {tf:.1} k {k:.2} kl {:.3} r2 {:.3} ess {:.0} clip {:.2} {} {}",
                                u.elapsed().as_secs_f64(),
                                report.kl,
                                report
                                    .figures
                                    .get("reward_model_r_squared")
                                    .copied()
                                    .unwrap_or(f64::NAN),
                                report.figures.get("ess").copied().unwrap_or(0.0),
                                report.clip_fraction,
                                if x.accepted { "ACCEPT" } else { "refuse" },
                                x.reason
                            );
                        } else {
                            line += if x.accepted { "+" } else { "-" };
                        }
                        if x.accepted {
                            learner.adopt(&snapshot).unwrap();
                            champion = snapshot;
                            head = h;
                        }
                    }
                    Err(error) => {
                        line += "!";
                        if verbose {
                            println!("  t {t} {error}");
                        }
                    }
                }
            }
            if marks.contains(&t) {
                let (f, k) = evaluate(&head, &qs, &test);
                line += &format!(" {t}: {f:.1} k {k:.2};");
            }
        }
        println!(
            "{line} cost {:.2} points ({:.2} deviate) {:.0}s",
            100.0 * (gr_r - ex_r) / last as f64,
            explored as f64 / last as f64,
            t0.elapsed().as_secs_f64()
        );
    }
}
