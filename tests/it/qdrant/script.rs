//! What the test server keeps, and what it is told to do wrong.

use super::store::Collection;
use qdrant_client::qdrant as wire;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// What goes wrong in one call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It ends with this code, nothing done.
    Status(Code),
    /// It ends with this code, everything done.
    Afterwards(Code),
    /// It limits the rate and asks for so many seconds.
    Exhausted(u64),
    /// It never ends.
    Hang,
    /// It takes so long.
    Slow(Duration),
    /// It finds nothing.
    Empty,
    /// It finds everything twice.
    Twice,
    /// It takes a write without applying it in time.
    Unapplied,
}

/// All that outlives the process.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) collections: Mutex<BTreeMap<String, Collection>>,
    faults: Mutex<HashMap<&'static str, VecDeque<Fault>>>,
    standing: Mutex<Option<(&'static str, Fault)>>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    key: Mutex<Option<String>>,
    /// Points in each upsert that was applied.
    pub(super) upserts: Mutex<Vec<usize>>,
}

impl Shared {
    /// Adds what the next call of this method does that has nothing to do yet.
    pub(super) fn next(&self, method: &'static str, faults: &[Fault]) {
        self.faults.lock().unwrap().entry(method).or_default().extend(faults);
    }

    /// What every call of a method does from now on, or that none does anything.
    pub(super) fn always(&self, fault: Option<(&'static str, Fault)>) {
        *self.standing.lock().unwrap() = fault;
    }

    /// The key without which nobody is served.
    pub(super) fn ask_for_key(&self, key: &str) {
        *self.key.lock().unwrap() = Some(key.to_owned());
    }

    /// Calls of a method so far.
    pub(super) fn calls(&self, method: &'static str) -> u64 {
        self.calls.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// Puts a collection there that somebody else made.
    pub(super) fn put(&self, made: wire::CreateCollection) {
        let name = made.collection_name.clone();
        self.collections.lock().unwrap().insert(name, Collection::new(made));
    }

    /// Counts a call, checks its key, and does what is written down for it.
    pub(super) async fn enter(
        &self,
        method: &'static str,
        metadata: &MetadataMap,
    ) -> Result<Option<Fault>, Status> {
        *self.calls.lock().unwrap().entry(method).or_default() += 1;
        if let Some(key) = self.key.lock().unwrap().as_deref()
            && metadata.get("api-key").and_then(|given| given.to_str().ok()) != Some(key)
        {
            return Err(Status::unauthenticated("Must provide an API key"));
        }
        let standing = self.standing.lock().unwrap().filter(|(of, _)| *of == method);
        let next = self.faults.lock().unwrap().get_mut(method).and_then(VecDeque::pop_front);
        match next.or(standing.map(|(_, fault)| fault)) {
            Some(Fault::Status(code)) => Err(Status::new(code, "scripted")),
            Some(Fault::Exhausted(seconds)) => {
                let mut status = Status::resource_exhausted("scripted limit");
                status.metadata_mut().insert("retry-after", seconds.into());
                Err(status)
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            fault => Ok(fault),
        }
    }

    /// Works on a collection, if there is one of that name.
    pub(super) fn with<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Collection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        match self.collections.lock().unwrap().get_mut(name) {
            Some(collection) => work(collection),
            None => {
                Err(Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
            }
        }
    }
}
