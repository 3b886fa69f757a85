//! Partitions shared by several processes: they meet, move, and are fenced.

use super::{PATIENCE, config, namespace, open, until};
use crate::services::kafka;
use actors::ports::{
    Commit, EventConsumer, EventLog, LogError, NewRecord, Ownership, StateChange, Stream,
};
use regrade::adapters::log_kafka::KafkaLog;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const STREAMS: [Stream; 2] = [Stream::Episodes, Stream::Feedback];
const PARTITIONS: u32 = 4;

/// What one reader saw.
#[derive(Default)]
struct Seen {
    /// `(stream, partition, offset)` of each record, in the order of arrival.
    records: Vec<(Stream, u32, u64)>,
    owned: BTreeSet<u32>,
    /// Partitions that came with the state of an earlier ownership, and those that came bare.
    restored: usize,
    bare: usize,
}

/// Reads and commits, hands over what is to leave, until told to stop.
fn read(
    mut consumer: Box<dyn EventConsumer>,
    mut stop: watch::Receiver<bool>,
) -> (Arc<Mutex<Seen>>, tokio::task::JoinHandle<()>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        while !*stop.borrow_and_update() {
            let records = consumer.poll(7, Duration::from_millis(50)).await.unwrap();
            for change in consumer.changes() {
                if let Some(partition) = note(&shared, change) {
                    consumer.release(partition).await.unwrap();
                }
            }
            let mut commits: BTreeMap<u32, Commit> = BTreeMap::new();
            for record in &records {
                let commit = commits.entry(record.partition).or_default();
                commit.partition = record.partition;
                commit.positions.retain(|place| place.0 != record.stream);
                commit.positions.push((record.stream, record.partition, record.offset + 1));
                let key = format!("{:?}/{}", record.stream, record.offset);
                commit.state.push(StateChange::Put { key, value: Vec::new() });
                let mut seen = shared.lock().unwrap();
                assert!(
                    seen.owned.contains(&record.partition),
                    "a record of a partition not owned"
                );
                seen.records.push((record.stream, record.partition, record.offset));
            }
            for commit in commits.into_values() {
                // While the group shares out anew it takes no offsets for a moment.
                while let Err(error) = consumer.commit(commit.clone()).await {
                    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
                }
            }
        }
    });
    (seen, task)
}

/// Notes a change of hands; gives the partition that is to be released.
fn note(seen: &Mutex<Seen>, change: Ownership) -> Option<u32> {
    let mut seen = seen.lock().unwrap();
    match change {
        Ownership::Gained { partition, state } => {
            seen.owned.insert(partition);
            match state {
                Some(_) => seen.restored += 1,
                None => seen.bare += 1,
            }
            None
        }
        Ownership::Leaving { partition } => {
            seen.owned.remove(&partition);
            Some(partition)
        }
        Ownership::Lost { partition } => {
            seen.owned.remove(&partition);
            None
        }
    }
}

async fn append(log: &KafkaLog, numbers: std::ops::Range<u32>) {
    for stream in STREAMS {
        let records = numbers.clone().map(|n| NewRecord {
            key: format!("decision {n}"),
            payload: n.to_string().into_bytes(),
            ..NewRecord::default()
        });
        log.append(stream, records.collect()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_together_moves_together_and_is_read_once_over_orderly_hand_overs() {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = config(bootstrap, &namespace("groups"), PARTITIONS);
    let one = open(&folder.path().join("one"), settings.clone()).await;
    let two = open(&folder.path().join("two"), settings).await;
    append(&one, 0..200).await;
    let (stop_one, stopped_one) = watch::channel(false);
    let (stop_two, stopped_two) = watch::channel(false);
    let (first, task_one) = read(one.consumer("judge", &STREAMS).await.unwrap(), stopped_one);
    until("all at one", async || first.lock().unwrap().owned.len() == 4).await;
    let (second, task_two) = read(two.consumer("judge", &STREAMS).await.unwrap(), stopped_two);
    until("shared", async || {
        let owned = |seen: &Mutex<Seen>| seen.lock().unwrap().owned.clone();
        let (a, b) = (owned(&first), owned(&second));
        a.len() == 2 && b.len() == 2 && a.is_disjoint(&b)
    })
    .await;
    append(&two, 200..400).await;
    let count = |seen: &Mutex<Seen>| seen.lock().unwrap().records.len();
    until("all read", async || count(&first) + count(&second) == 800).await;
    assert!(count(&second) > 0, "the second process has its share");
    stop_two.send(true).unwrap();
    task_two.await.unwrap();
    until("all back at one", async || first.lock().unwrap().owned.len() == 4).await;
    append(&one, 400..500).await;
    until("the rest read", async || count(&first) + count(&second) == 1_000).await;
    stop_one.send(true).unwrap();
    task_one.await.unwrap();

    let (first, second) = (first.lock().unwrap(), second.lock().unwrap());
    let distinct: BTreeSet<_> = first.records.iter().chain(&second.records).collect();
    assert_eq!(distinct.len(), 1_000, "every record was read, and none twice");
    assert_eq!((first.restored, first.bare), (4, 2), "the second's partitions came back bare");
    assert_eq!(second.restored, 0, "state of another process is not this one's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_let_go_in_time_is_fenced() {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = config(bootstrap, &namespace("fenced"), 2);
    let one = open(&folder.path().join("one"), settings.clone()).await;
    let two = open(&folder.path().join("two"), settings).await;
    append(&one, 0..20).await;
    let mut slow = one.consumer("judge", &STREAMS).await.unwrap();
    let mut held = BTreeMap::new();
    while held.len() < 4 {
        for record in slow.poll(100, PATIENCE).await.unwrap() {
            held.insert((record.stream, record.partition), record.offset + 1);
        }
        slow.changes();
    }
    let (stop, stopped) = watch::channel(false);
    let (seen, task) = read(two.consumer("judge", &STREAMS).await.unwrap(), stopped);
    let mut changes = Vec::new();
    while !changes.iter().any(|change| matches!(change, Ownership::Lost { .. })) {
        slow.poll(100, Duration::from_millis(100)).await.unwrap();
        changes.extend(slow.changes());
    }
    let leaving: Vec<u32> = changes
        .iter()
        .filter_map(|change| match change {
            Ownership::Leaving { partition } => Some(*partition),
            _ => None,
        })
        .collect();
    assert_eq!(leaving.len(), 1, "one of two partitions goes: {changes:?}");
    let positions = |partition: u32| {
        let own = held.iter().filter(move |((_, number), _)| *number == partition);
        own.map(|((stream, number), next)| (*stream, *number, *next)).collect::<Vec<_>>()
    };
    let late = Commit {
        partition: leaving[0],
        positions: positions(leaving[0]),
        appends: vec![(Stream::Rewards, NewRecord::default())],
        ..Commit::default()
    };
    let refused = slow.commit(late).await;
    assert!(matches!(refused, Err(LogError::Fenced(_))), "{refused:?}");
    let kept = 1 - leaving[0];
    let positions = positions(kept);
    // While the group shares out its partitions a commit of those that stay is put off, not lost.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let positions = positions.clone();
        match slow.commit(Commit { partition: kept, positions, ..Commit::default() }).await {
            Err(LogError::Unavailable(_)) if tokio::time::Instant::now() < deadline => {
                slow.poll(100, Duration::from_millis(100)).await.unwrap();
            }
            other => break other.unwrap(),
        }
    }
    until("read by the other", async || {
        seen.lock().unwrap().records.iter().any(|(_, partition, _)| *partition == leaving[0])
    })
    .await;
    assert_eq!(one.ends(Stream::Rewards).await.unwrap().iter().sum::<u64>(), 0, "nothing written");
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_where_they_are_said_to_go() {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), config(bootstrap, &namespace("keys"), 5)).await;
    append(&log, 0..100).await;
    let mut reader = log.follower("reader", &STREAMS, None).await.unwrap();
    let mut count = 0;
    while count < 200 {
        for record in reader.poll(100, PATIENCE).await.unwrap() {
            assert_eq!(log.partition_of(record.stream, &record.key), record.partition);
            count += 1;
        }
    }
    assert!(reader.poll(1, Duration::ZERO).await.unwrap().is_empty());
    let newest = log.tail(Stream::Episodes, 0, 3).await.unwrap();
    let ends = log.ends(Stream::Episodes).await.unwrap();
    let offsets: Vec<u64> = newest.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (ends[0] - 3..ends[0]).collect::<Vec<_>>());
    let mut late = log.follower("late", &[Stream::Episodes], Some(2)).await.unwrap();
    let mut seen = BTreeMap::<u32, u64>::new();
    while !late.is_at_end() || seen.is_empty() {
        for record in late.poll(100, Duration::from_millis(50)).await.unwrap() {
            *seen.entry(record.partition).or_default() += 1;
        }
    }
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), [2; 5], "the newest two of each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_cannot_work_are_refused_by_name() {
    let Some(bootstrap) = kafka() else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = namespace("topics");
    let missing = regrade::adapters::log_kafka::KafkaLogConfig {
        create_topics: false,
        request_timeout_ms: 1_000,
        ..config(bootstrap, &name, 2)
    };
    let error = KafkaLog::open(folder.path(), "node", missing).await.map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{name}.queries")) && text.contains("create_topics"), "{text}");
    let away = regrade::adapters::log_kafka::KafkaLogConfig {
        request_timeout_ms: 500,
        ..config("127.0.0.1:9", &name, 2)
    };
    let error = KafkaLog::open(folder.path(), "node", away).await.map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:9") && text.contains("did not answer"), "{text}");
}
