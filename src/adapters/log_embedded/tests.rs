//! The contract on file and in memory; locks, damage, a full disk, retention, shared writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::adapters::contract::check_event_log;
use actors::ports::StateChange;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

fn record(payload: &[u8]) -> NewRecord {
    NewRecord { key: "k".to_owned(), payload: payload.to_vec(), ..NewRecord::default() }
}

fn config() -> EmbeddedLogConfig {
    EmbeddedLogConfig { cache_bytes: 4 << 20, ..EmbeddedLogConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    check_event_log(async |name: &str| {
        let path = folder.path().join(name);
        Arc::new(EmbeddedLog::open(&path, config()).await.unwrap()) as Arc<dyn EventLog>
    })
    .await;
}

#[tokio::test]
async fn memory_keeps_the_contract_as_long_as_it_is_held() {
    let logs = Mutex::new(HashMap::<String, EmbeddedLog>::new());
    check_event_log(async |name: &str| {
        let held = locked(&logs).get(name).cloned();
        let log = match held {
            Some(log) => log,
            None => EmbeddedLog::in_memory(config()).await.unwrap(),
        };
        locked(&logs).insert(name.to_owned(), log.clone());
        Arc::new(log) as Arc<dyn EventLog>
    })
    .await;
}

#[tokio::test]
async fn a_second_owner_of_the_file_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let first = EmbeddedLog::open(&path, config()).await.unwrap();
    match EmbeddedLog::open(&path, config()).await.map(drop) {
        Err(LogError::InUse(hint)) => assert!(hint.contains("another process"), "{hint}"),
        other => panic!("a second opening gave {other:?}"),
    }
    drop(first);
    EmbeddedLog::open(&path, config()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_not_repaired_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = EmbeddedLog::open(&path, config()).await.unwrap();
    for n in 0..50_u8 {
        log.append(Stream::Episodes, vec![record(&[n; 20_000])]).await.unwrap();
    }
    drop(log);
    let sound = std::fs::read(&path).unwrap();
    let middle = sound.len() / 2;
    let mut torn = sound.clone();
    torn[middle..middle + 40_000].fill(0xa5);
    for bytes in [torn, sound[..middle].to_vec(), b"not a database at all".repeat(1_000)] {
        std::fs::write(&path, bytes).unwrap();
        match EmbeddedLog::open(&path, config()).await.map(drop) {
            Err(LogError::Damaged(_)) => {}
            other => panic!("a damaged file gave {other:?}"),
        }
    }
    std::fs::write(&path, sound).unwrap();
    let log = EmbeddedLog::open(&path, config()).await.unwrap();
    assert_eq!(log.ends(Stream::Episodes).await.unwrap(), [50]);
}

/// A disk of limited size that outlives the database on it.
#[derive(Debug, Clone)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    room: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
}

impl Disk {
    fn new() -> Self {
        let room = Arc::new(AtomicU64::new(u64::MAX));
        Self { bytes: Arc::default(), room, broken: Arc::default() }
    }

    async fn log(&self) -> EmbeddedLog {
        let disk = self.clone();
        let settings = Settings::new(config().cache_bytes, config().verify_on_open);
        let open = move || settings.builder().create_with_backend(disk.clone());
        EmbeddedLog::open_with("disk".to_owned(), Box::new(open), config()).await.unwrap()
    }

    fn check(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the cable is out"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        if len > self.room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.bytes.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reading_and_recovers_once_there_is_room() {
    let disk = Disk::new();
    let log = disk.log().await;
    log.append(Stream::Episodes, vec![record(b"before")]).await.unwrap();
    let mut consumer = log.consumer("reader", &[Stream::Episodes]).await.unwrap();
    disk.room.store(disk.bytes.len().unwrap(), Ordering::SeqCst);
    let large = vec![record(&vec![7; 8 << 20])];
    for _ in 0..3 {
        match log.append(Stream::Episodes, large.clone()).await {
            Err(LogError::Full(_)) => {}
            other => panic!("a full disk gave {other:?}"),
        }
        consumer.rewind().await.unwrap();
        let records = consumer.poll(10, Duration::ZERO).await.unwrap();
        assert_eq!(records.len(), 1, "reading still works and nothing half-written shows");
    }
    disk.room.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(log.append(Stream::Episodes, large).await.unwrap(), [1]);
    let records = consumer.poll(10, Duration::ZERO).await.unwrap();
    assert_eq!(records[0].payload.len(), 8 << 20);
    drop((consumer, log));
    assert_eq!(disk.log().await.ends(Stream::Episodes).await.unwrap(), [2]);
}

#[tokio::test]
async fn a_write_error_is_unavailable_and_the_log_opens_itself_again() {
    let disk = Disk::new();
    let log = disk.log().await;
    log.append(Stream::Queries, vec![record(b"1")]).await.unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        match log.append(Stream::Queries, vec![record(b"lost")]).await {
            Err(LogError::Unavailable(_)) => {}
            other => panic!("a broken disk gave {other:?}"),
        }
    }
    disk.broken.store(false, Ordering::SeqCst);
    assert_eq!(log.append(Stream::Queries, vec![record(b"2")]).await.unwrap(), [1]);
}

#[tokio::test]
async fn retention_waits_for_every_registered_consumer() {
    let retention = BTreeMap::from([(Stream::Queries, 3)]);
    let log = EmbeddedLog::in_memory(EmbeddedLogConfig { retention, ..config() }).await.unwrap();
    let mut slow = log.consumer("slow", &[Stream::Queries]).await.unwrap();
    for n in 0..10_u8 {
        log.append(Stream::Queries, vec![record(&[n])]).await.unwrap();
    }
    assert_eq!(slow.poll(100, Duration::ZERO).await.unwrap().len(), 10, "nothing was removed");
    let positions = vec![(Stream::Queries, 0, 5)];
    slow.commit(Commit { positions, ..Commit::default() }).await.unwrap();
    let mut fresh = log.consumer("fresh", &[Stream::Queries]).await.unwrap();
    let seen = fresh.poll(100, Duration::ZERO).await.unwrap();
    assert_eq!(seen[0].offset, 5, "passed records beyond the three kept are gone");
    log.forget("slow").await.unwrap();
    log.forget("fresh").await.unwrap();
    log.append(Stream::Queries, vec![record(&[10])]).await.unwrap();
    let mut last = log.consumer("last", &[Stream::Queries]).await.unwrap();
    let offsets: Vec<u64> =
        last.poll(100, Duration::ZERO).await.unwrap().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [8, 9, 10]);
    assert_eq!(log.ends(Stream::Queries).await.unwrap(), [11]);
    assert!(matches!(fresh.poll(1, Duration::ZERO).await, Err(LogError::InUse(_))));
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_alone_or_in_a_commit() {
    let limits = EmbeddedLogConfig { record_bytes_max: 100, ..config() };
    let log = EmbeddedLog::in_memory(limits).await.unwrap();
    let refused = log.append(Stream::Queries, vec![record(b"ok"), record(&[0; 100])]).await;
    assert!(matches!(refused, Err(LogError::Refused(_))));
    let mut consumer = log.consumer("c", &[Stream::Queries]).await.unwrap();
    let commit = Commit {
        appends: vec![(Stream::Answers, record(&[0; 100]))],
        state: vec![StateChange::Put { key: "a".to_owned(), value: vec![1] }],
        ..Commit::default()
    };
    assert!(matches!(consumer.commit(commit).await, Err(LogError::Refused(_))));
    assert!(consumer.state().await.unwrap().is_empty());
    assert_eq!(log.ends(Stream::Queries).await.unwrap(), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_writes_and_a_caller_that_gives_up_breaks_nothing() {
    let limits = EmbeddedLogConfig { write_queue_max: 8, write_batch_max: 4, ..config() };
    let log = EmbeddedLog::in_memory(limits).await.unwrap();
    let writers = (0..40_u8).map(|n| {
        let log = log.clone();
        tokio::spawn(async move {
            let append = log.append(Stream::Queries, vec![record(&[n])]);
            if n % 5 == 0 {
                // Given up at once: written or not, but never in the way.
                let _ = tokio::time::timeout(Duration::ZERO, append).await;
                return 0;
            }
            append.await.unwrap();
            1
        })
    });
    let mut written = 0;
    for writer in writers.collect::<Vec<_>>() {
        written += writer.await.unwrap();
    }
    assert_eq!(written, 32);
    let end = log.ends(Stream::Queries).await.unwrap()[0];
    assert!((32..=40).contains(&end), "{end} records");
}
