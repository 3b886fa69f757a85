//! The list-wise order as a policy: rerank in windows, take the first k.
//!
//! Bridges a synchronous port and rankers that may have to wait for a server. Knows no ranker.

use super::{ListwiseArgs, Reranked, WindowRanker, rerank};
use crate::policy::baselines::{Share, by_place, fill, no_weights, refused, stamp, unlearned};
use crate::policy::reader::PairReader;
use actors::ports::{DecideRequest, Policy, PolicyError};
use actors::types::{Decision, Document, PolicySnapshot, PolicyStamp};
use futures::FutureExt as _;
use rand::rngs::StdRng;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};

/// See the module. Greedy: its decisions support no off-policy estimate.
///
/// A list of which some windows failed is decided by what the others said, as RankGPT does; one of
/// which every window failed is an error, for its order would be that of another baseline.
pub struct ListwisePolicy {
    name: String,
    ranker: Arc<dyn WindowRanker>,
    reader: Arc<PairReader>,
    args: ListwiseArgs,
    k: usize,
    runtime: Option<Handle>,
    calls: usize,
    failed: usize,
}

impl ListwisePolicy {
    /// The first `k` of the reranked list. The reader's tokenizer counts context tokens. The ranker
    /// must answer without waiting; for one that waits, see [`Self::on`].
    pub fn new(
        name: &str,
        (ranker, reader): (Arc<dyn WindowRanker>, Arc<PairReader>),
        args: ListwiseArgs,
        k: usize,
    ) -> Self {
        let name = name.to_owned();
        Self { name, ranker, reader, args, k, runtime: None, calls: 0, failed: 0 }
    }

    /// The same with a ranker that waits on `runtime`, which must outlive it.
    #[must_use]
    pub fn on(self, runtime: Handle) -> Self {
        Self { runtime: Some(runtime), ..self }
    }

    /// Windows asked about since it was made, and those of them that were not ranked.
    pub fn counts(&self) -> (usize, usize) {
        (self.calls, self.failed)
    }

    fn decide_one(&mut self, request: &DecideRequest) -> Result<Decision, PolicyError> {
        if request.candidates.is_empty() {
            return Err(PolicyError::Refused("there is no candidate to choose from".to_owned()));
        }
        let query = request.query.text.as_str();
        let documents: Vec<&Document> = request.candidates.iter().map(|c| &c.document).collect();
        let pairs: Vec<(&str, &Document)> = documents.iter().map(|d| (query, *d)).collect();
        let tokens = self.reader.passage_tokens(&pairs).map_err(refused)?;
        let ranker = Arc::clone(&self.ranker);
        let made = self.wait(rerank(&*ranker, query, &documents, self.args)).ok_or_else(|| {
            let reason = "the ranker waits, and there is no runtime to wait on: use `on`";
            PolicyError::Model(reason.to_owned())
        })?;
        self.calls += made.calls;
        self.failed += made.failed;
        if let Reranked { failure: Some(error), calls, failed, .. } = &made
            && calls == failed
        {
            return Err(PolicyError::Model(error.to_string()));
        }
        let share = Share { eligible: documents.len(), count: self.k };
        let order = fill(&made.order, share, &tokens, request.limits);
        let scores = by_place(&made.order, documents.len());
        Ok(unlearned(request, &self.name, (order, scores, tokens)))
    }

    /// Waits for the windows from whatever thread decides; `None` where that cannot be done.
    fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match (&self.runtime, Handle::try_current().map(|current| current.runtime_flavor())) {
            (Some(runtime), Err(_)) => Some(runtime.block_on(work)),
            (Some(runtime), Ok(RuntimeFlavor::MultiThread)) => {
                Some(tokio::task::block_in_place(|| runtime.block_on(work)))
            }
            _ => tokio::task::unconstrained(work).now_or_never(),
        }
    }
}

impl Policy for ListwisePolicy {
    fn decide(
        &mut self,
        requests: &[DecideRequest],
        _rng: &mut StdRng,
    ) -> Vec<Result<Decision, PolicyError>> {
        requests.iter().map(|request| self.decide_one(request)).collect()
    }

    fn swap(&mut self, snapshot: &PolicySnapshot) -> Result<(), PolicyError> {
        Err(no_weights(&self.name, snapshot))
    }

    fn stamp(&self) -> PolicyStamp {
        stamp(&self.name)
    }
}
