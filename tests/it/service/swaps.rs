//! Fifty swaps of real weights while real queries are answered.

use crate::tiny::{PATIENCE, Tiny, passages, query, until};
use actors::ports::{NewRecord, Stream};
use actors::service::{Overrides, Service};
use actors::types::{PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion};
use candle_core::Device;
use regrade::policy::serving::first_snapshot;
use regrade::wiring;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SWAPS: u64 = 50;
const CALLERS: usize = 4;

/// Weights unlike those of any other version.
fn weights(width: usize, version: u64) -> PolicySnapshot {
    let snapshot = first_snapshot(width, version, &Device::Cpu).unwrap();
    let parent = Some(PolicyVersion(version - 1));
    PolicySnapshot::new(PolicyVersion(version), parent, "test", snapshot.weights.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_under_load_fail_no_request_and_each_answer_names_one_version() {
    let tiny = Tiny::new();
    let config = tiny.config();
    let parts = wiring::parts(&config).await.unwrap();
    let (ports, width) = (parts.ports, parts.reader.width());
    ports.index.upsert(&passages()).await.unwrap();
    let service = Service::start(ports.clone(), config.service.clone()).await.unwrap();
    until("ready", async || service.ready().await.ready).await;

    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (service, over) = (service.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut query = query(n % 8, &[]);
                    query.id = format!("{caller}-{n}").as_str().into();
                    // A failed request fails the test right here.
                    seen.push(service.answer(query, Overrides::default()).await.unwrap().policy);
                }
                seen
            })
        })
        .collect();

    let mut digests = BTreeMap::from([(0, service.policy().digest)]);
    for version in 1..=SWAPS {
        let snapshot = weights(width, version);
        digests.insert(version, snapshot.digest.clone());
        let record = tiny.certified(PolicyRecord {
            uri: ports.snapshots.put(&snapshot).await.unwrap(),
            ..PolicyRecord::of(&snapshot, PolicyState::Champion, "", 0)
        });
        let payload = serde_json::to_vec(&record).unwrap();
        let record = NewRecord { key: version.to_string(), payload, ..NewRecord::default() };
        ports.log.append(Stream::Policies, vec![record]).await.unwrap();
        until("swapped", async || service.policy().version.0 == version).await;
    }
    over.store(true, Ordering::Relaxed);

    let mut answers = 0;
    for caller in callers {
        let seen = caller.await.unwrap();
        answers += seen.len();
        assert!(seen.windows(2).all(|w| w[0].version <= w[1].version), "a version went back");
        for stamp in seen {
            assert_eq!(digests[&stamp.version.0], stamp.digest, "version and digest disagree");
        }
    }
    assert!(answers > SWAPS as usize, "only {answers} answers: that was no load");
    assert_eq!(service.observe().await.door.failed, 0);
    assert!(service.drain(PATIENCE).await.clean);
}
