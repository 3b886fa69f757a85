//! The wire over a real socket, with a scripted service behind it.

mod bad_requests;
mod door;
mod good_requests;
mod lifecycle;

use door::ScriptedDoor;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use regrade::config::{Config, ServerConfig};
use regrade::gateway::{self, Door, GatewayError, Parts};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on a port of its own.
pub(crate) struct Server {
    url: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), GatewayError>>,
}

impl Server {
    async fn start(door: ScriptedDoor) -> Self {
        Self::start_with(door, Config::default().server).await
    }

    async fn start_with(door: ScriptedDoor, limits: ServerConfig) -> Self {
        Self::over(Arc::new(door), limits).await
    }

    /// The wire over any service.
    pub(crate) async fn over(door: Arc<dyn Door>, limits: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let parts = Parts {
            door,
            limits,
            selection: Config::default().service.limits,
            config: Config::default().digest().unwrap(),
            metrics: metrics(),
            seed: 7,
        };
        let end = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(gateway::run(listener, parts, end));
        Self { url, client: reqwest::Client::new(), stop, ended }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json");
        request.body(body).send().await.unwrap()
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }
}

/// One recorder for all tests of this process.
fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap()).clone()
}

pub(crate) async fn json(response: reqwest::Response) -> serde_json::Value {
    response.json().await.unwrap()
}
