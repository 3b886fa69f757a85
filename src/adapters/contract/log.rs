//! The promises of `ports::EventLog`.

use actors::ports::{
    Commit, EventConsumer, EventLog, LogError, NewRecord, Record, StateChange, Stream,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Long enough for anything local; a promise that needs longer is broken.
const PATIENCE: Duration = Duration::from_secs(30);
const NONE: Duration = Duration::ZERO;

/// Checks an event log. `make(name)` opens the log of that name: a new one at first, and the same
/// one with everything that was durable when the name is opened again after the earlier handle
/// (and its consumers) are gone.
pub async fn check_event_log(make: impl AsyncFn(&str) -> Arc<dyn EventLog>) {
    an_empty_log_has_no_records(&*make("empty").await).await;
    records_come_back_as_written_and_in_order(&*make("order").await).await;
    order_holds_within_each_stream(&*make("streams").await).await;
    concurrent_appends_keep_their_batches_together(make("concurrent").await).await;
    records_of_a_key_are_found_however_old(&make).await;
    a_large_record_passes(&*make("large").await).await;
    a_poll_waits_and_wakes(make("wake").await).await;
    a_poll_gives_at_most_what_was_asked_for(&*make("max").await).await;
    a_commit_is_all_or_nothing(&*make("commit").await).await;
    a_position_in_the_future_is_refused(&*make("future").await).await;
    a_rewind_returns_to_the_committed_position(&*make("rewind").await).await;
    two_names_read_independently(&*make("names").await).await;
    one_name_makes_progress_once(&*make("duplicate").await).await;
    everything_committed_survives_a_restart(&make).await;
}

fn record(key: &str, payload: &str) -> NewRecord {
    let headers = BTreeMap::from([("ce_id".to_owned(), format!("id of {key}"))]);
    NewRecord { key: key.to_owned(), headers, payload: payload.as_bytes().to_vec() }
}

fn numbered(range: std::ops::Range<u64>) -> Vec<NewRecord> {
    range.map(|n| record(&format!("k{}", n % 3), &n.to_string())).collect()
}

fn put(key: &str, value: &str) -> StateChange {
    StateChange::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

/// Polls for records, past polls that only bring changes of ownership.
async fn next(consumer: &mut dyn EventConsumer, max: usize) -> Vec<Record> {
    loop {
        let records = consumer.poll(max, PATIENCE).await.unwrap();
        let is_told = consumer.changes().is_empty();
        if !records.is_empty() || is_told {
            return records;
        }
    }
}

/// Polls until `count` records came; fails when they do not.
async fn drain(consumer: &mut dyn EventConsumer, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let records = next(consumer, count - payloads.len()).await;
        assert!(!records.is_empty(), "only {} of {count} records came", payloads.len());
        payloads.extend(records.iter().map(|r| String::from_utf8(r.payload.clone()).unwrap()));
    }
    payloads
}

async fn an_empty_log_has_no_records(log: &dyn EventLog) {
    for stream in Stream::ALL {
        let ends = log.ends(stream).await.unwrap();
        assert!(ends.iter().all(|end| *end == 0), "a new {stream:?} stream ends at {ends:?}");
    }
    let mut consumer = log.consumer("reader", &Stream::ALL).await.unwrap();
    assert!(consumer.poll(10, NONE).await.unwrap().is_empty());
    assert!(consumer.state().await.unwrap().is_empty());
    assert!(log.append(Stream::Queries, Vec::new()).await.unwrap().is_empty());
}

async fn records_come_back_as_written_and_in_order(log: &dyn EventLog) {
    let offsets = log.append(Stream::Episodes, vec![record("a", "{}"), record("a", "")]).await;
    let offsets = offsets.unwrap();
    assert_eq!(offsets.len(), 2);
    assert!(offsets[0] < offsets[1], "offsets of one key rise: {offsets:?}");
    let mut consumer = log.consumer("reader", &[Stream::Episodes]).await.unwrap();
    let mut records = next(&mut *consumer, 10).await;
    if records.len() == 1 {
        records.extend(next(&mut *consumer, 10).await);
    }
    for (read, (offset, payload)) in records.iter().zip(offsets.iter().zip(["{}", ""])) {
        assert_eq!((read.stream, read.offset), (Stream::Episodes, *offset));
        assert_eq!((read.key.as_str(), read.payload.as_slice()), ("a", payload.as_bytes()));
        assert_eq!(read.headers["ce_id"], "id of a");
    }
    let ends: u64 = log.ends(Stream::Episodes).await.unwrap().iter().sum();
    assert_eq!(ends, 2, "the ends count what was appended");
}

async fn records_of_a_key_are_found_however_old(make: &impl AsyncFn(&str) -> Arc<dyn EventLog>) {
    let of = async |log: &dyn EventLog, stream, key, newest| {
        let found = log.find(stream, key, newest).await.unwrap();
        assert!(found.is_complete, "all that was appended is looked through");
        let payloads = found.records.into_iter().map(|r| {
            assert_eq!((r.stream, r.key.as_str()), (stream, key));
            String::from_utf8(r.payload).unwrap()
        });
        payloads.collect::<Vec<_>>()
    };
    let log = make("keys").await;
    assert!(of(&*log, Stream::Episodes, "k0", 9).await.is_empty());
    log.append(Stream::Episodes, numbered(0..20)).await.unwrap();
    log.append(Stream::Rewards, vec![record("k0", "reward"), record("k01", "other")])
        .await
        .unwrap();
    assert_eq!(of(&*log, Stream::Episodes, "k0", 3).await, ["12", "15", "18"]);
    assert_eq!(of(&*log, Stream::Episodes, "k1", 9).await, ["1", "4", "7", "10", "13", "16", "19"]);
    assert_eq!(of(&*log, Stream::Rewards, "k0", 9).await, ["reward"]);
    assert!(of(&*log, Stream::Rewards, "k", 9).await.is_empty());
    log.append(Stream::Rewards, vec![record("k0", "again")]).await.unwrap();
    drop(log);
    let log = make("keys").await;
    assert_eq!(of(&*log, Stream::Rewards, "k0", 1).await, ["again"]);
    assert_eq!(of(&*log, Stream::Episodes, "k2", 2).await, ["14", "17"]);
}

async fn order_holds_within_each_stream(log: &dyn EventLog) {
    for n in 0..20 {
        let stream = if n % 2 == 0 { Stream::Episodes } else { Stream::Feedback };
        log.append(stream, vec![record("k", &n.to_string())]).await.unwrap();
    }
    let streams = [Stream::Episodes, Stream::Feedback];
    let mut consumer = log.consumer("reader", &streams).await.unwrap();
    let mut seen: BTreeMap<Stream, Vec<u64>> = BTreeMap::new();
    while seen.values().map(Vec::len).sum::<usize>() < 20 {
        let records = next(&mut *consumer, 3).await;
        assert!(!records.is_empty(), "records are missing: {seen:?}");
        for record in records {
            let number = std::str::from_utf8(&record.payload).unwrap().parse().unwrap();
            seen.entry(record.stream).or_default().push(number);
        }
    }
    assert_eq!(seen[&Stream::Episodes], (0..20).step_by(2).collect::<Vec<u64>>());
    assert_eq!(seen[&Stream::Feedback], (1..20).step_by(2).collect::<Vec<u64>>());
}

async fn concurrent_appends_keep_their_batches_together(log: Arc<dyn EventLog>) {
    let writers = (0..8_u64).map(|writer| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for turn in 0..5_u64 {
                let key = format!("w{writer}");
                let batch = (0..3).map(|n| record(&key, &(turn * 3 + n).to_string())).collect();
                log.append(Stream::Queries, batch).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut consumer = log.consumer("reader", &[Stream::Queries]).await.unwrap();
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while seen.values().map(Vec::len).sum::<usize>() < 120 {
        let records = next(&mut *consumer, 50).await;
        assert!(!records.is_empty(), "records are missing");
        for record in records {
            let number = std::str::from_utf8(&record.payload).unwrap().parse().unwrap();
            seen.entry(record.key).or_default().push(number);
        }
    }
    for (key, numbers) in seen {
        assert_eq!(numbers, (0..15).collect::<Vec<u64>>(), "order of key {key}");
    }
}

async fn a_large_record_passes(log: &dyn EventLog) {
    let payload: Vec<u8> = (0..900_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let record = NewRecord { payload: payload.clone(), ..record("big", "") };
    log.append(Stream::Episodes, vec![record]).await.unwrap();
    let mut consumer = log.consumer("reader", &[Stream::Episodes]).await.unwrap();
    let records = next(&mut *consumer, 1).await;
    assert_eq!(records.len(), 1);
    assert!(records[0].payload == payload, "a record of 900 kB changed on the way");
}

async fn a_poll_waits_and_wakes(log: Arc<dyn EventLog>) {
    let mut consumer = log.consumer("reader", &[Stream::Rewards]).await.unwrap();
    let waiting = tokio::spawn(async move { next(&mut *consumer, 10).await });
    tokio::task::yield_now().await;
    log.append(Stream::Rewards, vec![record("a", "1")]).await.unwrap();
    assert_eq!(waiting.await.unwrap().len(), 1, "a waiting poll sees a new record");
}

async fn a_poll_gives_at_most_what_was_asked_for(log: &dyn EventLog) {
    log.append(Stream::Queries, numbered(0..7)).await.unwrap();
    let mut consumer = log.consumer("reader", &[Stream::Queries]).await.unwrap();
    assert!(consumer.poll(0, NONE).await.unwrap().is_empty());
    assert!(next(&mut *consumer, 3).await.len() <= 3);
}

async fn a_commit_is_all_or_nothing(log: &dyn EventLog) {
    log.append(Stream::Episodes, vec![record("a", "0"), record("a", "1")]).await.unwrap();
    let mut consumer = log.consumer("judge", &[Stream::Episodes]).await.unwrap();
    drain(&mut *consumer, 2).await;
    let partition = 0;
    let commit = Commit {
        positions: vec![(Stream::Episodes, partition, 1)],
        state: vec![put("x", "1"), put("y", "2")],
        appends: vec![(Stream::Rewards, record("a", "reward"))],
        ..Commit::default()
    };
    consumer.commit(commit).await.unwrap();
    // The position lies in the future, so neither its state nor its record may be seen.
    let refused = Commit {
        positions: vec![(Stream::Episodes, partition, 99)],
        state: vec![put("x", "changed"), StateChange::Delete { key: "y".to_owned() }],
        appends: vec![(Stream::Rewards, record("a", "must not appear"))],
        ..Commit::default()
    };
    assert!(consumer.commit(refused).await.is_err());
    let delete = Commit {
        state: vec![
            StateChange::Delete { key: "y".to_owned() },
            StateChange::Delete { key: "never there".to_owned() },
        ],
        ..Commit::default()
    };
    consumer.commit(delete).await.unwrap();
    let state = consumer.state().await.unwrap();
    assert_eq!(state, BTreeMap::from([("x".to_owned(), b"1".to_vec())]));
    drop(consumer);
    let mut again = log.consumer("judge", &[Stream::Episodes]).await.unwrap();
    assert_eq!(drain(&mut *again, 1).await, ["1"], "a new opening starts at the position");
    let mut rewards = log.consumer("learner", &[Stream::Rewards]).await.unwrap();
    assert_eq!(drain(&mut *rewards, 1).await, ["reward"]);
    assert!(rewards.poll(1, NONE).await.unwrap().is_empty());
}

async fn a_position_in_the_future_is_refused(log: &dyn EventLog) {
    log.append(Stream::Episodes, numbered(0..2)).await.unwrap();
    let mut consumer = log.consumer("reader", &[Stream::Episodes]).await.unwrap();
    let polled = next(&mut *consumer, 10).await;
    let last = polled.last().unwrap();
    let commit = |offset| Commit {
        positions: vec![(last.stream, last.partition, offset)],
        ..Commit::default()
    };
    match consumer.commit(commit(last.offset + 2)).await {
        Err(LogError::Refused(_)) => {}
        other => panic!("a position after what was polled gave {other:?}"),
    }
    consumer.commit(commit(last.offset + 1)).await.unwrap();
    consumer.commit(Commit::default()).await.unwrap();
}

async fn a_rewind_returns_to_the_committed_position(log: &dyn EventLog) {
    let one_key = (0..5).map(|n| record("k", &n.to_string())).collect();
    log.append(Stream::Feedback, one_key).await.unwrap();
    let mut consumer = log.consumer("reader", &[Stream::Feedback]).await.unwrap();
    let mut second = None;
    let mut count = 0;
    while count < 5 {
        for record in next(&mut *consumer, 5 - count).await {
            count += 1;
            if record.payload == b"1" {
                second = Some((record.stream, record.partition, record.offset + 1));
            }
        }
    }
    let positions = vec![second.unwrap()];
    consumer.commit(Commit { positions, ..Commit::default() }).await.unwrap();
    consumer.rewind().await.unwrap();
    assert_eq!(drain(&mut *consumer, 3).await, ["2", "3", "4"]);
    drop(consumer);
    let mut again = log.consumer("reader", &[Stream::Feedback]).await.unwrap();
    assert_eq!(drain(&mut *again, 3).await, ["2", "3", "4"], "replay from the committed offset");
}

async fn two_names_read_independently(log: &dyn EventLog) {
    log.append(Stream::Policies, vec![record("k", "0"), record("k", "1")]).await.unwrap();
    let mut one = log.consumer("one", &[Stream::Policies]).await.unwrap();
    let mut two = log.consumer("two", &[Stream::Policies]).await.unwrap();
    assert_eq!(drain(&mut *one, 2).await, ["0", "1"]);
    one.commit(Commit { state: vec![put("mine", "1")], ..Commit::default() }).await.unwrap();
    assert_eq!(drain(&mut *two, 2).await, ["0", "1"]);
    assert!(two.state().await.unwrap().is_empty(), "state belongs to one name");
}

/// Two consumers of one name may both be open (a restart overlaps); only one of them goes on.
async fn one_name_makes_progress_once(log: &dyn EventLog) {
    log.append(Stream::Episodes, vec![record("k", "0"), record("k", "1")]).await.unwrap();
    let mut older = log.consumer("twin", &[Stream::Episodes]).await.unwrap();
    drain(&mut *older, 2).await;
    let Ok(mut newer) = log.consumer("twin", &[Stream::Episodes]).await else {
        return; // Refusing the second is as good.
    };
    let got = newer.poll(2, NONE).await.unwrap_or_default();
    let commit = |key: &str| Commit {
        positions: vec![(Stream::Episodes, 0, 1)],
        state: vec![put(key, "1")],
        ..Commit::default()
    };
    let older_went_on = older.commit(commit("older")).await.is_ok();
    let newer_went_on = !got.is_empty() && newer.commit(commit("newer")).await.is_ok();
    assert!(older_went_on != newer_went_on, "exactly one of two consumers of a name goes on");
}

async fn everything_committed_survives_a_restart(make: &impl AsyncFn(&str) -> Arc<dyn EventLog>) {
    let name = "restart";
    let log = make(name).await;
    let one_key = (0..10).map(|n| record("k", &n.to_string())).collect();
    let offsets = log.append(Stream::Episodes, one_key).await.unwrap();
    let mut consumer = log.consumer("judge", &[Stream::Episodes]).await.unwrap();
    let mut polled = Vec::new();
    while polled.len() < 10 {
        polled.extend(next(&mut *consumer, 10).await);
    }
    let fourth = &polled[3];
    let commit = Commit {
        positions: vec![(fourth.stream, fourth.partition, fourth.offset + 1)],
        state: vec![put("held", "4")],
        appends: vec![(Stream::Rewards, record("k", "reward"))],
        ..Commit::default()
    };
    consumer.commit(commit).await.unwrap();
    drop((consumer, log));

    let log = make(name).await;
    let mut consumer = log.consumer("judge", &[Stream::Episodes]).await.unwrap();
    let state = consumer.state().await.unwrap();
    assert_eq!(state, BTreeMap::from([("held".to_owned(), b"4".to_vec())]));
    assert_eq!(drain(&mut *consumer, 6).await, ["4", "5", "6", "7", "8", "9"]);
    let mut rewards = log.consumer("learner", &[Stream::Rewards]).await.unwrap();
    assert_eq!(drain(&mut *rewards, 1).await, ["reward"]);
    let more = log.append(Stream::Episodes, vec![record("k", "10")]).await.unwrap();
    assert_eq!(more[0], offsets[9] + 1, "offsets go on where they stopped");
}
