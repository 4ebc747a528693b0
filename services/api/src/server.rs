//! The listener and its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use stocktide_runtime::Config;
use stocktide_runtime::admin::Health;
use stocktide_store::api;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::pulse::{self, Pulse};
use crate::state::{App, Shared};
use crate::stream::{self, Hub};
use crate::{layers, router};

mod patient;

use patient::Patient;

/// Connections beside those of the streams.
const MORE_CONNECTIONS: usize = 256;
/// How long a request's head may take to come, and a connection that is kept may rest.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing while an answer waits for it.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// The longest head, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// How long open requests may take to end at shutdown.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// Who comes when there is no room.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 2\r\n\
    connection: close\r\ncontent-length: 118\r\n\r\n\
    {\"type\":\"urn:stocktide:overloaded\",\"title\":\"Too much at once\",\"status\":503,\"detail\":\"as many are connected as may be\"}";

/// The API, listening.
pub struct Api {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    app: App,
    router: Router,
    health: Health,
}

impl Api {
    /// Listens, and says where. Neither the database nor Kafka need be there yet.
    ///
    /// # Errors
    /// [`ConfigError`](stocktide_runtime::ConfigError) where anybody could reach it and nothing would be asked of them, or
    /// a setting is missing; when the address cannot be listened on.
    pub async fn bind(config: &Config, registry: Registry, health: Health) -> anyhow::Result<Api> {
        let url = config.database_url()?;
        config.kafka_brokers()?;
        let listen = &config.api.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("api.listen: cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let access = Access::of(config, address)?;
        let metrics = Arc::new(Metrics::register(&registry).context("the API's metrics")?);
        // The server gives up a little before the client is told.
        let statement_timeout = config.api.request_timeout.mul_f64(0.8);
        let pool = api::pool(&url, config.api.connections, statement_timeout).context("database.url")?;
        let openapi = router::openapi().to_json().context("the OpenAPI document")?;
        let app: App = Arc::new(Shared {
            pool,
            walks: Semaphore::new(walks(config.api.connections)),
            access,
            request_timeout: config.api.request_timeout,
            registry,
            intake: Intake::new(config, Arc::clone(&metrics))?,
            metrics,
            hub: Arc::new(Hub::new(config.api.streams)),
            pulse: Arc::new(Pulse::new()),
            openapi: Bytes::from(openapi),
            config: Arc::new(config.clone()),
            shutdown: CancellationToken::new(),
        });
        let router = layers::around(router::routes(), &app);
        Ok(Api { listener, address, config: config.clone(), app, router, health })
    }

    /// Where it listens: the port may have been 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, and then for as long as open requests take, within bounds.
    ///
    /// # Errors
    /// When a thread cannot be had.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tracing::info!("API on http://{}", self.address);
        let app = self.app;
        let guard = app.shutdown.clone().drop_guard();
        let pool = app.pool.clone();
        let watching = pulse::watch(
            Arc::clone(&app.pulse),
            self.config.clone(),
            pool,
            self.health,
            Arc::clone(&app.metrics),
            app.shutdown.clone(),
        );
        let watching = tokio::spawn(watching);
        let (hub, metrics, token) = (Arc::clone(&app.hub), Arc::clone(&app.metrics), app.shutdown.clone());
        let config = self.config;
        let following = std::thread::Builder::new()
            .name("stock-stream".to_owned())
            .spawn(move || stream::run(&config, &hub, &metrics, &token))
            .context("no thread for the stream")?;
        let room = Arc::new(Semaphore::new(app.config.api.streams + MORE_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        accept(&self.listener, &self.router, &room, &graceful, &shutdown).await;
        // Streams have no end of their own.
        drop(guard);
        if tokio::time::timeout(SHUTDOWN_DEADLINE, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were cut off at shutdown");
        }
        let _ = watching.await;
        let _ = tokio::task::spawn_blocking(move || following.join()).await;
        app.pool.close().await;
        Ok(())
    }
}

/// How many of the connections slow questions may have at once: a quarter of them.
fn walks(connections: u32) -> usize {
    (connections / 4).max(1) as usize
}

/// Takes connections until `shutdown`.
async fn accept(
    listener: &TcpListener,
    router: &Router,
    room: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
    shutdown: &CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, say: some will be given back.
                tracing::warn!("api.listen: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        // An event is small, and is to go out at once.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(Patient::new(stream, WRITE_PATIENCE)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
}

fn refuse(stream: &TcpStream) {
    // A new connection has room for so little; if not, it is closed all the same.
    let _ = stream.try_write(NO_ROOM);
}
