//! Pairs a second through the encoder, ours and ONNX Runtime in turn, on the same token ids.
//!
//! `cargo bench -p simulations --bench rerank_throughput [-- --model DIR --python PATH]`, after
//! `pip install -r simulations/peers/requirements.txt` into that Python. Prints one JSON line;
//! `ratio` is ours over the peer's by the wall clock, `cpu_ratio` by CPU seconds, which other work
//! on the machine disturbs less. It passes or fails nothing on time; it fails where the two disagree
//! on the states.

use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use clap::Parser;
use rand::{Rng, SeedableRng, rngs::StdRng};
use regrade::policy::encoder::{Encoder, PackedBatch, Sequence, Weights};
use regrade::policy::model_folder::ModelFolder;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// The reader that comes with the repository.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/models/minilm-reader");

/// Options of the benchmark.
#[derive(Debug, Parser)]
struct Options {
    /// Model folder.
    #[arg(long, default_value = SHIPPED)]
    model: PathBuf,
    /// Python with the peer's requirements; without it only ours is measured.
    #[arg(long, env = "REGRADE_PEER_PYTHON")]
    python: Option<PathBuf>,
    /// Pairs a batch.
    #[arg(long, default_value_t = 32)]
    pairs: usize,
    /// Tokens a pair.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Measured batches a turn; the best counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Turns of each side, alternating.
    #[arg(long, default_value_t = 2)]
    turns: usize,
    /// Threads of each side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one side measured; also the peer's output line.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Measured {
    pairs_per_second: f64,
    pairs_per_cpu_second: f64,
    n: usize,
    /// Mean absolute `[CLS]` state.
    checksum: f64,
}

#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    ours: f64,
    peer: Option<f64>,
    ratio: Option<f64>,
    unit: &'static str,
    n: usize,
    ours_per_cpu_second: f64,
    peer_per_cpu_second: Option<f64>,
    cpu_ratio: Option<f64>,
    tokens: usize,
    threads: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let ids = token_ids(&options);
    let (mut ours, mut peer) = (None, None);
    for _ in 0..options.turns.max(1) {
        ours = best(ours, measure_ours(&options, &ids)?);
        if let Some(python) = &options.python {
            peer = best(peer, measure_peer(&options, python, &ids)?);
        }
    }
    let ours = ours.context("no turn was measured")?;
    if let Some(peer) = peer
        && (ours.checksum - peer.checksum).abs() > 1e-3
    {
        bail!("ours and the peer disagree: {} against {}", ours.checksum, peer.checksum);
    }
    let line = Line {
        name: "rerank_throughput",
        ours: ours.pairs_per_second,
        peer: peer.map(|peer| peer.pairs_per_second),
        ratio: peer.map(|peer| ours.pairs_per_second / peer.pairs_per_second),
        unit: "pairs/s",
        n: ours.n,
        ours_per_cpu_second: ours.pairs_per_cpu_second,
        peer_per_cpu_second: peer.map(|peer| peer.pairs_per_cpu_second),
        cpu_ratio: peer.map(|peer| ours.pairs_per_cpu_second / peer.pairs_per_cpu_second),
        tokens: options.tokens,
        threads: options.threads,
    };
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

fn token_ids(options: &Options) -> Vec<Vec<u32>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut one = || (0..options.tokens).map(|_| rng.random_range(1_000..29_000)).collect();
    (0..options.pairs).map(|_| one()).collect()
}

fn best(so_far: Option<Measured>, next: Measured) -> Option<Measured> {
    let Some(so_far) = so_far else { return Some(next) };
    Some(Measured {
        pairs_per_second: so_far.pairs_per_second.max(next.pairs_per_second),
        pairs_per_cpu_second: so_far.pairs_per_cpu_second.max(next.pairs_per_cpu_second),
        n: so_far.n + next.n,
        checksum: next.checksum,
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn measure_ours(options: &Options, ids: &[Vec<u32>]) -> Result<Measured> {
    let folder = ModelFolder::load(&options.model, &Device::Cpu)?;
    let encoder = Encoder::new(&folder.config, &Weights::frozen(folder.tensors))?;
    let sequences: Vec<Sequence> =
        ids.iter().map(|ids| Sequence { ids: ids.clone(), types: vec![0; ids.len()] }).collect();
    let batch = PackedBatch::new(&sequences, &Device::Cpu)?;
    let states = encoder.forward(&batch)?.to_vec2::<f32>()?;
    let first = states.iter().step_by(options.tokens).flatten();
    let total: f64 = first.map(|x| f64::from(x.abs())).sum();
    let checksum = total / (ids.len() * folder.config.hidden_size) as f64;
    let (mut wall, mut cpu) = (f64::MAX, f64::MAX);
    for _ in 0..options.rounds {
        let (started, used) = (Instant::now(), cpu_seconds()?);
        encoder.forward(&batch)?;
        wall = wall.min(started.elapsed().as_secs_f64());
        cpu = cpu.min(cpu_seconds()? - used);
    }
    let pairs = ids.len() as f64;
    Ok(Measured {
        pairs_per_second: pairs / wall,
        pairs_per_cpu_second: pairs / cpu,
        n: ids.len() * options.rounds,
        checksum,
    })
}

fn measure_peer(options: &Options, python: &PathBuf, ids: &[Vec<u32>]) -> Result<Measured> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/onnx_rerank.py");
    let path = std::env::temp_dir().join(format!("rerank-{}.json", std::process::id()));
    std::fs::write(&path, serde_json::to_vec(ids)?)?;
    let output = Command::new(python)
        .arg(script)
        .arg(&options.model)
        .arg(&path)
        .arg(options.rounds.to_string())
        .arg(options.threads.to_string())
        .output()
        .with_context(|| format!("cannot run {}", python.display()));
    std::fs::remove_file(&path)?;
    let output = output?;
    if !output.status.success() {
        bail!("{script} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the peer printed no JSON line")
}

/// CPU seconds of this process, user and system: fields 14 and 15 of Linux' `/proc/self/stat`, in
/// hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field, the name in parentheses, may hold blanks.
    let rest = stat.rsplit_once(')').context("unexpected /proc/self/stat")?.1;
    let ticks: f64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
