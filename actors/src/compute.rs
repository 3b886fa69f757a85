//! The only place that runs blocking model work: an OS thread that owns the model, behind a bounded
//! channel, or inline for simulations.
//!
//! Floor 1. Knows no model. Inline exists because a model on its own thread looks idle to tokio's
//! paused clock, which would then jump past every deadline; run inline, a seed repeats exactly.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Why a piece of work gave no result.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ComputeError {
    /// The thread is gone: the work (or earlier work) panicked, or start-up failed.
    #[error("compute thread `{0}` has stopped")]
    Stopped(String),
    /// The channel is full.
    #[error("compute thread `{0}` is overloaded")]
    Overloaded(String),
}

/// How work is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeMode {
    /// On an OS thread of its own.
    #[default]
    Thread,
    /// On the caller's task, at once.
    Inline,
}

/// What work may take that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Background {
    /// Threads of a pool of its own; 0: half of the cores.
    pub threads: usize,
    /// Niceness of these threads, 0 to 19; without effect elsewhere than on Linux.
    pub nice: u8,
}

type Job<M> = Box<dyn FnOnce(&mut M) + Send>;

/// A model and the place where it runs. Clones share the model; the thread ends with the last.
pub struct Compute<M> {
    name: Arc<str>,
    place: Place<M>,
}

enum Place<M> {
    Thread(mpsc::Sender<Job<M>>),
    Inline(Arc<Mutex<M>>),
}

impl<M> Clone for Compute<M> {
    fn clone(&self) -> Self {
        let place = match &self.place {
            Place::Thread(jobs) => Place::Thread(jobs.clone()),
            Place::Inline(model) => Place::Inline(Arc::clone(model)),
        };
        Self { name: Arc::clone(&self.name), place }
    }
}

impl<M> std::fmt::Debug for Compute<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compute").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<M: Send + 'static> Compute<M> {
    /// Starts a place for `model`; at most `queue` pieces of work wait.
    pub fn start(
        name: &str,
        mode: ComputeMode,
        queue: usize,
        model: M,
    ) -> Result<Self, ComputeError> {
        Self::start_with(name, mode, queue, model, |job, model| job(model))
    }

    fn start_with(
        name: &str,
        mode: ComputeMode,
        queue: usize,
        model: M,
        call: impl Fn(Job<M>, &mut M) + Send + 'static,
    ) -> Result<Self, ComputeError> {
        let place = match mode {
            ComputeMode::Inline => Place::Inline(Arc::new(Mutex::new(model))),
            ComputeMode::Thread => {
                let (sender, receiver) = mpsc::channel::<Job<M>>(queue.max(1));
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || run(model, receiver, call))
                    .map_err(|_| ComputeError::Stopped(name.to_owned()))?;
                Place::Thread(sender)
            }
        };
        Ok(Self { name: name.into(), place })
    }

    /// The same for work that must not be in the way of serving: on a thread, it runs in a pool of
    /// so many threads of low priority. Inline, where a seed must repeat, nothing differs.
    pub fn start_in_background(
        name: &str,
        mode: ComputeMode,
        (queue, share): (usize, Background),
        model: M,
    ) -> Result<Self, ComputeError> {
        if mode == ComputeMode::Inline {
            return Self::start(name, mode, queue, model);
        }
        let pool = pool(name, share).map_err(|_| ComputeError::Stopped(name.to_owned()))?;
        Self::start_with(name, mode, queue, model, move |job, model| pool.install(|| job(model)))
    }

    /// Runs `work` on the model and returns its result; waits for a place in the queue.
    ///
    /// Dropping the future abandons the result, not the work: a model is never left half-way.
    pub async fn run<T, F>(&self, work: F) -> Result<T, ComputeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut M) -> T + Send + 'static,
    {
        match &self.place {
            Place::Inline(model) => {
                let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(work(&mut model))
            }
            Place::Thread(jobs) => {
                let (reply, result) = oneshot::channel();
                let job: Job<M> = Box::new(move |model| {
                    // The caller may have given up; the work is done all the same.
                    let _ = reply.send(work(model));
                });
                jobs.send(job).await.map_err(|_| self.stopped())?;
                result.await.map_err(|_| self.stopped())
            }
        }
    }

    fn stopped(&self) -> ComputeError {
        ComputeError::Stopped(self.name.to_string())
    }
}

fn run<M>(mut model: M, mut jobs: mpsc::Receiver<Job<M>>, call: impl Fn(Job<M>, &mut M)) {
    while let Some(job) = jobs.blocking_recv() {
        call(job, &mut model);
    }
}

/// Lets encoders compute on all cores, and each operation of candle on one, unless the environment says
/// otherwise by `RAYON_NUM_THREADS`. Heads and what trains them are small: candle 0.11 reads
/// `/proc/cpuinfo` at each of their operations to learn how many threads it may use, and its threads wait
/// for each other by spinning, which serving then lacks (an update takes a third of the time with one).
///
/// Call it first in a process, before there is another thread.
///
/// # Errors
/// Threads that cannot be started, or a pool that was made before.
pub fn settle_threads() -> Result<(), rayon::ThreadPoolBuildError> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    #[expect(
        unsafe_code,
        clippy::disallowed_methods,
        reason = "candle takes this from nowhere else, and no other thread runs yet"
    )]
    // SAFETY: first thing that the only thread of the process does.
    unsafe {
        std::env::set_var(VARIABLE, "1");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    rayon::ThreadPoolBuilder::new().num_threads(cores).build_global()
}

/// A pool whose threads stand back; what a job splits up stays in it.
fn pool(name: &str, share: Background) -> Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if share.threads == 0 { (cores / 2).max(1) } else { share.threads };
    let name = name.to_owned();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |n| format!("{name}-{n}"))
        .start_handler(move |_| stand_back(share.nice))
        .build()
}

#[cfg(target_os = "linux")]
fn stand_back(nice: u8) {
    // Without a pid it is the calling thread, on Linux alone.
    if let Err(error) = rustix::process::setpriority_process(None, i32::from(nice)) {
        tracing::warn!(%error, nice, "learning runs at the priority of serving");
    }
}

#[cfg(not(target_os = "linux"))]
fn stand_back(_nice: u8) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn background_work_runs_on_its_own_few_threads_at_low_priority() {
        let share = Background { threads: 2, nice: 7 };
        let mode = ComputeMode::Thread;
        let compute = Compute::start_in_background("quiet", mode, (1, share), ()).unwrap();
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        let of_work = move |(): &mut ()| (rayon::current_num_threads(), niceness());
        assert_eq!(compute.run(of_work).await.unwrap(), (2, 7));
        assert_eq!(niceness(), own, "nobody else stands back");
    }
}
