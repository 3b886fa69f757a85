//! The collection on the server: made or checked once, searched, written, counted.
//!
//! Knows the calls and their order; how a call survives a bad day is `connection.rs`.

use super::config::QdrantConfig;
use super::connection::{Budget, Connection};
use super::failure::Failure;
use super::points::{filter, nearest, point, point_id, ranked, readable};
use super::schema::{DENSE, SPARSE, Schema};
use crate::retrieval::{EmbedError, Embedder, Purpose, SparseBm25};
use actors::ports::Search;
use actors::types::{Candidate, Document, DocumentId};
use qdrant_client::qdrant::{
    CollectionExistsRequest, CollectionInfo, CountPoints, DeletePoints, GetCollectionInfoRequest,
    HealthCheckRequest, PointsIdsList, PointsOperationResponse, PointsSelector, QueryBatchPoints,
    QueryPoints, UpdateStatus, UpsertPoints, VectorInput, points_selector,
};
use rand::rngs::StdRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Response, Status};

pub(super) struct Collection {
    config: QdrantConfig,
    bm25: SparseBm25,
    embedder: Option<Arc<dyn Embedder>>,
    schema: Schema,
    connection: Connection,
    /// Set once the collection is there and fits.
    prepared: OnceCell<()>,
}

impl Collection {
    pub(super) fn new(
        config: QdrantConfig,
        embedder: Option<Arc<dyn Embedder>>,
        rng: StdRng,
    ) -> Result<Self, Failure> {
        let QdrantConfig { k1, b, average_length, .. } = config;
        Ok(Self {
            bm25: SparseBm25 { k1, b, average_length },
            schema: Schema::new(&config, embedder.as_deref()),
            connection: Connection::new(&config, rng)?,
            prepared: OnceCell::new(),
            embedder,
            config,
        })
    }

    pub(super) fn config(&self) -> &QdrantConfig {
        &self.config
    }

    pub(super) fn search_budget(&self) -> Budget {
        Budget {
            timeout: Duration::from_millis(self.config.search_timeout_ms),
            deadline: Instant::now() + Duration::from_millis(self.config.search_deadline_ms),
            is_guarded: true,
        }
    }

    pub(super) fn write_budget(&self) -> Budget {
        Budget {
            timeout: Duration::from_millis(self.config.write_timeout_ms),
            deadline: Instant::now() + Duration::from_millis(self.config.write_deadline_ms),
            is_guarded: false,
        }
    }

    /// Makes sure, once, that the collection is there and fits.
    pub(super) async fn prepared(&self, budget: Budget) -> Result<(), Failure> {
        self.prepared.get_or_try_init(|| self.prepare(budget)).await.copied()
    }

    async fn prepare(&self, budget: Budget) -> Result<(), Failure> {
        let name = self.config.collection.as_str();
        let health = HealthCheckRequest {};
        let server = self.connection.call(budget, &health, |stubs, health| async move {
            stubs.server().health_check(health).await
        });
        let version = server.await?.version;
        if !self.exists(budget).await? {
            self.create(budget).await?;
        }
        let info = self.info(budget).await?;
        self.schema.check(&info)?;
        for index in self.schema.missing_indexes(&info) {
            let made = self.connection.call(budget, &index, |stubs, index| async move {
                stubs.points().create_field_index(index).await
            });
            made.await?;
        }
        tracing::info!(version, collection = name, "qdrant is there and its collection fits");
        Ok(())
    }

    async fn exists(&self, budget: Budget) -> Result<bool, Failure> {
        let request = CollectionExistsRequest { collection_name: self.config.collection.clone() };
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            stubs.collections().collection_exists(request).await
        });
        Ok(reply.await?.result.is_some_and(|result| result.exists))
    }

    /// Makes it; that another process was faster is no error, its work is checked next.
    async fn create(&self, budget: Budget) -> Result<(), Failure> {
        let request = self.schema.creation();
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            match stubs.collections().create(request).await {
                Err(status) if status.code() == Code::AlreadyExists => Ok(Response::new(())),
                reply => reply.map(|reply| reply.map(drop)),
            }
        });
        reply.await
    }

    async fn info(&self, budget: Budget) -> Result<CollectionInfo, Failure> {
        let request = GetCollectionInfoRequest { collection_name: self.config.collection.clone() };
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            stubs.collections().get(request).await
        });
        let empty = || Failure::Away("the server describes the collection by nothing".to_owned());
        reply.await?.result.ok_or_else(empty)
    }

    pub(super) async fn search(
        &self,
        search: &Search,
        budget: Budget,
    ) -> Result<Vec<Candidate>, Failure> {
        let known = &self.config.filter_fields;
        if let Some(key) = search.filter.keys().find(|key| !known.contains(key)) {
            return Err(Failure::Refused(format!(
                "cannot filter by `{key}`: `index.qdrant.filter_fields` has {known:?}"
            )));
        }
        let k = search.k.min(self.config.candidates_max);
        let nothing_fits = search.filter.values().any(Vec::is_empty);
        if k == 0 || search.text.trim().is_empty() || nothing_fits {
            return Ok(Vec::new());
        }
        self.prepared(budget).await?;
        let queries = self.queries(search, k.max(self.config.prefetch)).await?;
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let request = QueryBatchPoints {
            collection_name: self.config.collection.clone(),
            query_points: queries,
            timeout: Some(self.config.search_timeout_ms.div_ceil(1_000)),
            ..QueryBatchPoints::default()
        };
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            stubs.points().query_batch(request).await
        });
        ranked(reply.await?.result.into_iter().map(|list| list.result).collect(), k)
    }

    /// One query a ranked list: by terms, if the text has any, and by meaning, if there is a model.
    async fn queries(&self, search: &Search, limit: usize) -> Result<Vec<QueryPoints>, Failure> {
        let filter = filter(&search.filter);
        let name = self.config.collection.as_str();
        let mut queries = Vec::with_capacity(2);
        let sparse = SparseBm25::query(&search.text, self.config.query_terms_max);
        if !sparse.is_empty() {
            let vector = VectorInput::new_sparse(sparse.indices, sparse.values);
            queries.push(nearest(name, vector, (SPARSE, limit), filter.clone()));
        }
        if let Some(embedder) = &self.embedder {
            let text = std::slice::from_ref(&search.text);
            let dense = embedder.embed(text, Purpose::Query).await.map_err(|e| embedding(&e))?;
            let vector = dense.into_iter().next().unwrap_or_default();
            queries.push(nearest(name, VectorInput::new_dense(vector), (DENSE, limit), filter));
        }
        Ok(queries)
    }

    /// Writes one batch; searchable when it returns.
    pub(super) async fn write(&self, batch: &[&Document]) -> Result<(), Failure> {
        let budget = self.write_budget();
        self.prepared(budget).await?;
        let mut dense = match &self.embedder {
            None => Vec::new(),
            Some(embedder) => {
                let texts: Vec<String> = batch.iter().map(|d| readable(d)).collect();
                let made = timeout_at(budget.deadline, embedder.embed(&texts, Purpose::Passage));
                let late = |_| Failure::Away("the embedding model is too slow".to_owned());
                made.await.map_err(late)?.map_err(|error| embedding(&error))?
            }
        }
        .into_iter();
        let points = batch.iter().map(|document| {
            let sparse = self.bm25.passage(&document.title, &document.text);
            point(document, sparse, dense.next())
        });
        let request = UpsertPoints {
            collection_name: self.config.collection.clone(),
            wait: Some(true),
            points: points.collect::<Result<_, _>>()?,
            ..UpsertPoints::default()
        };
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            applied(stubs.points().upsert(request).await)
        });
        reply.await
    }

    /// Removes one batch; gone when it returns.
    pub(super) async fn remove(&self, ids: &[DocumentId]) -> Result<(), Failure> {
        let budget = self.write_budget();
        self.prepared(budget).await?;
        let ids = PointsIdsList { ids: ids.iter().map(point_id).collect() };
        let one_of = Some(points_selector::PointsSelectorOneOf::Points(ids));
        let request = DeletePoints {
            collection_name: self.config.collection.clone(),
            wait: Some(true),
            points: Some(PointsSelector { points_selector_one_of: one_of }),
            ..DeletePoints::default()
        };
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            applied(stubs.points().delete(request).await)
        });
        reply.await
    }

    pub(super) async fn count(&self) -> Result<u64, Failure> {
        let budget = self.write_budget();
        self.prepared(budget).await?;
        let request = CountPoints {
            collection_name: self.config.collection.clone(),
            exact: Some(true),
            ..CountPoints::default()
        };
        let reply = self.connection.call(budget, &request, |stubs, request| async move {
            stubs.points().count(request).await
        });
        Ok(reply.await?.result.map_or(0, |result| result.count))
    }
}

fn embedding(error: &EmbedError) -> Failure {
    match error {
        EmbedError::Unavailable(_) => Failure::Away(error.to_string()),
        EmbedError::Refused(_) => Failure::Misfit(error.to_string()),
    }
}

/// A write that the server has taken but not applied is not done; sent again, it replaces itself.
fn applied(
    reply: Result<Response<PointsOperationResponse>, Status>,
) -> Result<Response<()>, Status> {
    let reply = reply?.into_inner();
    match reply.result.map(|result| result.status()) {
        Some(UpdateStatus::Completed) => Ok(Response::new(())),
        status => Err(Status::unavailable(format!("the write is not applied yet: {status:?}"))),
    }
}
