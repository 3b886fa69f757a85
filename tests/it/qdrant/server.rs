//! A Qdrant server for tests: the service traits that `qdrant-client` carries, over real gRPC on
//! loopback, with faults that a test writes down beforehand.
//!
//! It runs on a runtime of its own, so that killing it cuts every connection at once.

use super::script::{Fault, Shared};
use super::store::Collection;
use qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use qdrant_client::qdrant::points_server::{Points, PointsServer};
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use qdrant_client::qdrant::{self as wire, points_selector::PointsSelectorOneOf};
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A running server.
pub(super) struct TestServer {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
    pub(super) shared: Arc<Shared>,
}

impl TestServer {
    pub(super) fn start() -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::default())
    }

    fn on(address: SocketAddr, shared: Arc<Shared>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service(Arc::clone(&shared));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            // Without it a reply of several packets waits 40 ms for the client's acknowledgement.
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            tonic::transport::Server::builder()
                .add_service(QdrantServer::new(service.clone()))
                .add_service(CollectionsServer::new(service.clone()))
                .add_service(PointsServer::new(service).max_decoding_message_size(32 << 20))
                .serve_with_incoming(incoming)
                .await
        });
        Self { address, runtime: Some(runtime), shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as `kill -9` would; what it kept stays.
    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts it again at the same address.
    pub(super) fn revive(&mut self) {
        *self = Self::on(self.address, Arc::clone(&self.shared));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

/// Implements a service: what is written out, and `unimplemented` for the rest.
macro_rules! service {
    ($trait:ident { $($written:tt)* } $($name:ident($request:ident) -> $reply:ident;)*) => {
        #[tonic::async_trait]
        impl $trait for Service {
            $($written)*
            $(async fn $name(
                &self,
                _: Request<wire::$request>,
            ) -> Result<Response<wire::$reply>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! { Qdrant {
    async fn health_check(
        &self,
        request: Request<wire::HealthCheckRequest>,
    ) -> Result<Response<wire::HealthCheckReply>, Status> {
        self.0.enter("health_check", request.metadata()).await?;
        let (title, version) = ("test server".to_owned(), "1.16.0".to_owned());
        Ok(Response::new(wire::HealthCheckReply { title, version, commit: None }))
    }
} }

service! { Collections {
    async fn get(
        &self,
        request: Request<wire::GetCollectionInfoRequest>,
    ) -> Result<Response<wire::GetCollectionInfoResponse>, Status> {
        self.0.enter("get_collection", request.metadata()).await?;
        let name = request.into_inner().collection_name;
        let result = Some(self.0.with(&name, |collection| Ok(collection.info()))?);
        Ok(Response::new(wire::GetCollectionInfoResponse { result, time: 0.0 }))
    }

    async fn collection_exists(
        &self,
        request: Request<wire::CollectionExistsRequest>,
    ) -> Result<Response<wire::CollectionExistsResponse>, Status> {
        self.0.enter("collection_exists", request.metadata()).await?;
        let name = request.into_inner().collection_name;
        let exists = self.0.collections.lock().unwrap().contains_key(&name);
        let result = Some(wire::CollectionExists { exists });
        Ok(Response::new(wire::CollectionExistsResponse { result, time: 0.0 }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateCollection>,
    ) -> Result<Response<wire::CollectionOperationResponse>, Status> {
        let fault = self.0.enter("create_collection", request.metadata()).await?;
        let made = request.into_inner();
        let name = made.collection_name.clone();
        let mut collections = self.0.collections.lock().unwrap();
        if collections.contains_key(&name) {
            let text = format!("Wrong input: Collection `{name}` already exists!");
            return Err(Status::already_exists(text));
        }
        collections.insert(name, Collection::new(made));
        match fault {
            Some(Fault::Afterwards(code)) => Err(Status::new(code, "scripted")),
            _ => Ok(Response::new(wire::CollectionOperationResponse { result: true, time: 0.0 })),
        }
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteCollection>,
    ) -> Result<Response<wire::CollectionOperationResponse>, Status> {
        let name = request.into_inner().collection_name;
        let result = self.0.collections.lock().unwrap().remove(&name).is_some();
        Ok(Response::new(wire::CollectionOperationResponse { result, time: 0.0 }))
    }

    async fn list(
        &self,
        _: Request<wire::ListCollectionsRequest>,
    ) -> Result<Response<wire::ListCollectionsResponse>, Status> {
        let collections = self.0.collections.lock().unwrap();
        let named = |name: &String| wire::CollectionDescription { name: name.clone() };
        let collections = collections.keys().map(named).collect();
        Ok(Response::new(wire::ListCollectionsResponse { collections, time: 0.0 }))
    }
}
    update(UpdateCollection) -> CollectionOperationResponse;
    update_aliases(ChangeAliases) -> CollectionOperationResponse;
    list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
    list_aliases(ListAliasesRequest) -> ListAliasesResponse;
    collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
    update_collection_cluster_setup(UpdateCollectionClusterSetupRequest)
        -> UpdateCollectionClusterSetupResponse;
    create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
    delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
    list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
}

fn updated(fault: Option<Fault>) -> Result<Response<wire::PointsOperationResponse>, Status> {
    let status = match fault {
        Some(Fault::Afterwards(code)) => return Err(Status::new(code, "scripted")),
        Some(Fault::Unapplied) => wire::UpdateStatus::WaitTimeout,
        _ => wire::UpdateStatus::Completed,
    };
    let result = Some(wire::UpdateResult { operation_id: None, status: status.into() });
    Ok(Response::new(wire::PointsOperationResponse { result, time: 0.0, usage: None }))
}

service! { Points {
    async fn upsert(
        &self,
        request: Request<wire::UpsertPoints>,
    ) -> Result<Response<wire::PointsOperationResponse>, Status> {
        let fault = self.0.enter("upsert", request.metadata()).await?;
        let request = request.into_inner();
        let points = request.points.len();
        if matches!(fault, Some(Fault::Unapplied)) {
            return updated(fault);
        }
        self.0.with(&request.collection_name, |collection| collection.upsert(request.points))?;
        self.0.upserts.lock().unwrap().push(points);
        updated(fault)
    }

    async fn delete(
        &self,
        request: Request<wire::DeletePoints>,
    ) -> Result<Response<wire::PointsOperationResponse>, Status> {
        let fault = self.0.enter("delete", request.metadata()).await?;
        let request = request.into_inner();
        let selector = request.points.and_then(|points| points.points_selector_one_of);
        let Some(PointsSelectorOneOf::Points(points)) = selector else {
            return Err(Status::invalid_argument("only ids are known here"));
        };
        self.0.with(&request.collection_name, |collection| {
            collection.delete(&points.ids);
            Ok(())
        })?;
        updated(fault)
    }

    async fn create_field_index(
        &self,
        request: Request<wire::CreateFieldIndexCollection>,
    ) -> Result<Response<wire::PointsOperationResponse>, Status> {
        let fault = self.0.enter("create_field_index", request.metadata()).await?;
        let request = request.into_inner();
        self.0.with(&request.collection_name, |collection| {
            collection.index(request.field_name);
            Ok(())
        })?;
        updated(fault)
    }

    async fn count(
        &self,
        request: Request<wire::CountPoints>,
    ) -> Result<Response<wire::CountResponse>, Status> {
        self.0.enter("count", request.metadata()).await?;
        let request = request.into_inner();
        let count = |collection: &mut Collection| collection.count(request.filter.as_ref());
        let result = Some(wire::CountResult { count: self.0.with(&request.collection_name, count)? });
        Ok(Response::new(wire::CountResponse { result, time: 0.0, usage: None }))
    }

    async fn scroll(
        &self,
        request: Request<wire::ScrollPoints>,
    ) -> Result<Response<wire::ScrollResponse>, Status> {
        self.0.enter("scroll", request.metadata()).await?;
        let request = request.into_inner();
        let limit = request.limit.unwrap_or(10) as usize;
        let (page, next_page_offset) = self.0.with(&request.collection_name, |collection| {
            Ok(collection.scroll(request.offset.as_ref(), limit))
        })?;
        let point = |(id, payload)| wire::RetrievedPoint {
            id: Some(id),
            payload,
            ..wire::RetrievedPoint::default()
        };
        let result = page.into_iter().map(point).collect();
        Ok(Response::new(wire::ScrollResponse { next_page_offset, result, time: 0.0, usage: None }))
    }

    async fn query(
        &self,
        request: Request<wire::QueryPoints>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        self.0.enter("query", request.metadata()).await?;
        let query = request.into_inner();
        let result = self.0.with(&query.collection_name, |collection| collection.query(&query))?;
        Ok(Response::new(wire::QueryResponse { result, time: 0.0, usage: None }))
    }

    async fn query_batch(
        &self,
        request: Request<wire::QueryBatchPoints>,
    ) -> Result<Response<wire::QueryBatchResponse>, Status> {
        let fault = self.0.enter("query_batch", request.metadata()).await?;
        let batch = request.into_inner();
        let mut result = Vec::with_capacity(batch.query_points.len());
        for query in &batch.query_points {
            let mut found =
                self.0.with(&batch.collection_name, |collection| collection.query(query))?;
            match fault {
                Some(Fault::Empty) => found.clear(),
                Some(Fault::Twice) => found.extend(found.clone()),
                _ => {}
            }
            result.push(wire::BatchResult { result: found });
        }
        Ok(Response::new(wire::QueryBatchResponse { result, time: 0.0, usage: None }))
    }
}
    get(GetPoints) -> GetResponse;
    update_vectors(UpdatePointVectors) -> PointsOperationResponse;
    delete_vectors(DeletePointVectors) -> PointsOperationResponse;
    set_payload(SetPayloadPoints) -> PointsOperationResponse;
    overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
    delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
    clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
    delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
    create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
    delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
    search(SearchPoints) -> SearchResponse;
    search_batch(SearchBatchPoints) -> SearchBatchResponse;
    search_groups(SearchPointGroups) -> SearchGroupsResponse;
    recommend(RecommendPoints) -> RecommendResponse;
    recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
    recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
    discover(DiscoverPoints) -> DiscoverResponse;
    discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
    update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
    query_groups(QueryPointGroups) -> QueryGroupsResponse;
    facet(FacetCounts) -> FacetResponse;
    search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
    search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
}
