//! The event log in one local file: `ports::EventLog` on redb.
//!
//! Records, consumer positions and derived state are tables of one database, so a commit is one
//! atomic fsynced write. Concurrent writes share that fsync: whoever gets the writer's lock writes
//! for all who wait. Does not know what the records mean. Blocking calls run on tokio's blocking
//! threads only.

mod apply;
mod consumer;
mod store;

use crate::adapters::database_file::{Open, Settings, repeated};
use actors::ports::{Commit, EventConsumer, EventLog, Found, LogError, NewRecord, Record, Stream};
use apply::{Done, Owner, Work};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use store::{Ends, Store, index_of};
use tokio::sync::{Semaphore, oneshot, watch};

/// Limits of the embedded log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedLogConfig {
    /// Largest record accepted: key, headers and payload together, bytes.
    pub record_bytes_max: usize,
    /// Writes that may wait for the disk; further callers wait before they queue.
    pub write_queue_max: usize,
    /// Writes that share one fsync.
    pub write_batch_max: usize,
    /// Payload bytes after which a poll returns what it has; one record is always returned.
    pub poll_bytes_max: usize,
    /// Memory for cached pages, bytes.
    pub cache_bytes: usize,
    /// Checks every page when the log is opened: reads the whole file, finds any damage.
    pub verify_on_open: bool,
    /// Records kept at least, by stream; a stream that is not named keeps all. Records that a
    /// registered consumer has not passed are kept in any case.
    pub retention: BTreeMap<Stream, u64>,
}

impl Default for EmbeddedLogConfig {
    fn default() -> Self {
        Self {
            record_bytes_max: 16 << 20,
            write_queue_max: 4_096,
            write_batch_max: 512,
            poll_bytes_max: 32 << 20,
            cache_bytes: 64 << 20,
            verify_on_open: true,
            retention: BTreeMap::new(),
        }
    }
}

/// An event log in one file, owned by one process. Clones share it.
#[derive(Clone)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

struct Pending {
    work: Work,
    reply: oneshot::Sender<Result<Done, LogError>>,
}

/// What log and consumers share.
struct Shared {
    store: Store,
    config: EmbeddedLogConfig,
    /// Writes that wait for whoever holds `writer` next.
    queue: Mutex<VecDeque<Pending>>,
    writer: Arc<tokio::sync::Mutex<()>>,
    places: Semaphore,
    /// Next offsets after the last durable write; consumers wait for a change.
    ends: watch::Sender<Ends>,
    /// Generation of the newest consumer of each name: an older one is fenced off.
    owners: Mutex<HashMap<String, u64>>,
}

impl EmbeddedLog {
    /// Opens or creates the log file `path` (its folder must exist).
    pub async fn open(path: &Path, config: EmbeddedLogConfig) -> Result<Self, LogError> {
        let path = path.to_owned();
        let settings = Settings::new(config.cache_bytes, config.verify_on_open);
        let place = path.display().to_string();
        let open = move || settings.builder().create(&path);
        Self::open_with(place, Box::new(open), config).await
    }

    /// A log in memory, for tests and simulations: gone when the last clone is dropped.
    pub async fn in_memory(config: EmbeddedLogConfig) -> Result<Self, LogError> {
        let settings = Settings::new(config.cache_bytes, config.verify_on_open);
        let open =
            move || settings.builder().create_with_backend(redb::backends::InMemoryBackend::new());
        Self::open_with("memory".to_owned(), Box::new(open), config).await
    }

    /// Opens a log through `open`, which is called again when the database has to be reopened
    /// after an input or output error.
    async fn open_with(
        place: String,
        open: Open,
        config: EmbeddedLogConfig,
    ) -> Result<Self, LogError> {
        let (store, ends) = blocking(move || Store::open(place, open)).await?;
        let shared = Shared {
            store,
            queue: Mutex::new(VecDeque::new()),
            writer: Arc::default(),
            places: Semaphore::new(config.write_queue_max.clamp(1, Semaphore::MAX_PERMITS)),
            ends: watch::Sender::new(ends),
            owners: Mutex::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Forgets a consumer: its positions and its derived state. Retention no longer waits for it.
    /// A live consumer of that name is fenced off.
    pub async fn forget(&self, name: &str) -> Result<(), LogError> {
        self.shared.take_over(name);
        self.shared.write(Work::Forget { name: name.to_owned() }).await.map(drop)
    }
}

impl Shared {
    /// Queues `work` and returns once it is durable or refused.
    ///
    /// A caller that gives up before its work was picked up withdraws it; later the work is done
    /// all the same.
    async fn write(self: &Arc<Self>, work: Work) -> Result<Done, LogError> {
        let _place = self.places.acquire().await.map_err(|_| stopped())?;
        let (reply, mut result) = oneshot::channel();
        locked(&self.queue).push_back(Pending { work, reply });
        let guard = tokio::select! {
            biased;
            done = &mut result => return done.map_err(|_| stopped())?,
            guard = Arc::clone(&self.writer).lock_owned() => guard,
        };
        let shared = Arc::clone(self);
        // The guard travels into the work: it is held until the write is over even if this caller
        // gives up, so that writes happen in the order in which they were queued. This caller
        // leads until its own work is done; another of those who wait for the lock leads next.
        let led = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            loop {
                match result.try_recv() {
                    Ok(done) => return done,
                    Err(oneshot::error::TryRecvError::Empty) if shared.write_batch() => {}
                    Err(_) => return Err(stopped()),
                }
            }
        });
        led.await.unwrap_or_else(|_| {
            self.store.close();
            Err(LogError::Damaged(format!("{}: the store panicked", self.store.place())))
        })
    }

    /// Writes one batch; false when nothing waits. Blocking.
    fn write_batch(&self) -> bool {
        let batch: Vec<Pending> = {
            let mut queue = locked(&self.queue);
            let count = queue.len().min(self.config.write_batch_max.max(1));
            queue.drain(..count).filter(|pending| !pending.reply.is_closed()).collect()
        };
        if batch.is_empty() {
            return !locked(&self.queue).is_empty();
        }
        let (works, replies): (Vec<Work>, Vec<_>) =
            batch.into_iter().map(|pending| (pending.work, pending.reply)).unzip();
        let is_owner = |owner: &Owner| self.is_owner(owner);
        let written = self.store.write(|transaction| {
            apply::apply_all(transaction, &works, &self.config.retention, &is_owner)
        });
        match written {
            Ok((results, ends)) => {
                self.ends.send_replace(ends);
                for (reply, result) in replies.into_iter().zip(results) {
                    // The caller may have given up; the write stands.
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(repeated(&error)));
                }
            }
        }
        true
    }

    fn is_owner(&self, owner: &Owner) -> bool {
        locked(&self.owners).get(&owner.name) == Some(&owner.generation)
    }

    /// Makes a new generation the owner of a consumer name.
    fn take_over(&self, name: &str) -> Owner {
        let mut owners = locked(&self.owners);
        let generation = owners.get(name).map_or(0, |generation| generation + 1);
        owners.insert(name.to_owned(), generation);
        Owner { name: name.to_owned(), generation }
    }

    fn check_sizes<'a>(
        &self,
        records: impl IntoIterator<Item = &'a NewRecord>,
    ) -> Result<(), LogError> {
        for record in records {
            let headers: usize = record.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
            let bytes = record.key.len() + headers + record.payload.len();
            if bytes > self.config.record_bytes_max {
                return Err(LogError::Refused(format!(
                    "record `{:.64}` has {bytes} bytes, at most {} are allowed",
                    record.key, self.config.record_bytes_max
                )));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn append(&self, stream: Stream, records: Vec<NewRecord>) -> Result<Vec<u64>, LogError> {
        self.shared.check_sizes(&records)?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let appends = records.into_iter().map(|record| (stream, record)).collect();
        let commit = Commit { appends, ..Commit::default() };
        let done = self.shared.write(Work::Commit { owner: None, commit }).await?;
        Ok(done.offsets)
    }

    async fn consumer(
        &self,
        name: &str,
        streams: &[Stream],
    ) -> Result<Box<dyn EventConsumer>, LogError> {
        if name.is_empty() || streams.is_empty() {
            return Err(LogError::Refused("a consumer needs a name and a stream".to_owned()));
        }
        let owner = self.shared.take_over(name);
        let work = Work::Register { owner: owner.clone(), streams: streams.to_vec() };
        let done = self.shared.write(work).await?;
        let state = consumer::state_of(&self.shared, name).await?;
        let start = (done.positions, state);
        Ok(Box::new(consumer::Consumer::new(Arc::clone(&self.shared), owner, streams, start)))
    }

    async fn tail(
        &self,
        stream: Stream,
        partition: u32,
        newest: u64,
    ) -> Result<Vec<Record>, LogError> {
        if partition == 0 {
            consumer::tail_of(&self.shared, stream, newest).await
        } else {
            Ok(Vec::new())
        }
    }

    async fn find(&self, stream: Stream, key: &str, newest: usize) -> Result<Found, LogError> {
        consumer::find_in(&self.shared, stream, key, newest).await
    }

    async fn ends(&self, stream: Stream) -> Result<Vec<u64>, LogError> {
        Ok(vec![self.shared.ends.borrow()[index_of(stream)]])
    }

    fn partition_of(&self, _stream: Stream, _key: &str) -> u32 {
        0
    }
}

/// Runs blocking work off the async threads; a panic in it (redb on a broken file) is damage.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            Err(LogError::Damaged("the store panicked while it read the file".to_owned()))
        }
        Err(_) => Err(stopped()),
    }
}

fn stopped() -> LogError {
    LogError::Unavailable("the log is shutting down".to_owned())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
