//! An S3 server in this process: s3s-fs behind real HTTP, with signatures checked, on a thread of its own. It can be told
//! to fail, to hang, to be slow or to take credentials for expired, so that troubles in the middle of an upload can be tried.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const ACCESS_KEY: &str = "AKTEST";
const SECRET_KEY: &str = "a-secret-for-tests";

/// A running server. It ends when it is dropped.
pub struct S3Server {
    endpoint: String,
    root: tempfile::TempDir,
    weather: Arc<Weather>,
    _stop: oneshot::Sender<()>,
}

/// What the server does to uploads.
#[derive(Default)]
struct Weather {
    /// Uploads that still succeed, and what becomes of the next ones.
    after: AtomicUsize,
    mode: AtomicUsize,
    uploads: AtomicUsize,
}

const FINE: usize = 0;
const FAILING: usize = 1;
const HANGING: usize = 2;
const SLOW: usize = 3;
const EXPIRED: usize = 4;

/// How long a slow server takes for an upload.
const LAG: Duration = Duration::from_millis(300);

struct Gate {
    weather: Arc<Weather>,
    root: PathBuf,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        // s3s-fs would make a bucket by putting something into it; S3 does not.
        let bucket = context.s3_path().get_bucket_name().unwrap_or_default();
        if !self.root.join(bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"));
        }
        if context.method() != "PUT" {
            return Ok(());
        }
        self.weather.uploads.fetch_add(1, Ordering::SeqCst);
        let mode = self.weather.mode.load(Ordering::SeqCst);
        let step = |left: usize| left.checked_sub(1);
        if mode == FINE || self.weather.after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).is_ok() {
            return Ok(());
        }
        match mode {
            HANGING => std::future::pending().await,
            SLOW => {
                tokio::time::sleep(LAG).await;
                Ok(())
            }
            EXPIRED => Err(s3_error!(ExpiredToken, "The provided token has expired.")),
            _ => Err(s3_error!(SlowDown, "Please reduce your request rate.")),
        }
    }
}

impl S3Server {
    /// Starts it with these buckets.
    pub fn start(buckets: &[&str]) -> S3Server {
        let root = tempfile::tempdir().unwrap();
        for bucket in buckets {
            std::fs::create_dir(root.path().join(bucket)).unwrap();
        }
        let weather = Arc::new(Weather::default());
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.set_access(Gate { weather: weather.clone(), root: root.path().to_owned() });
        let service = builder.build();
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, mut stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let socket = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap().0,
                        _ = &mut stopped => break,
                    };
                    let service = service.clone();
                    tokio::spawn(async move {
                        let server = Builder::new(TokioExecutor::new());
                        let _ = server.serve_connection(TokioIo::new(socket), service).await;
                    });
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        S3Server { endpoint: format!("http://{}", told.recv().unwrap()), root, weather, _stop: stop }
    }

    /// What a client has to set, under the names that it has in the environment.
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The same with one of them set to something else.
    pub fn settings_with(&self, name: &str, value: &str) -> Vec<(String, String)> {
        let mut settings = self.settings();
        settings.retain(|(known, _)| known != name);
        settings.push((name.to_owned(), value.to_owned()));
        settings
    }

    /// After so many further uploads, all fail with SlowDown.
    pub fn fail_after(&self, uploads: usize) {
        self.set(FAILING, uploads);
    }

    /// After so many further uploads, none is answered any more.
    pub fn hang_after(&self, uploads: usize) {
        self.set(HANGING, uploads);
    }

    /// Every further upload takes [`LAG`].
    pub fn slow_down(&self) {
        self.set(SLOW, 0);
    }

    /// After so many further uploads, the credentials have expired.
    pub fn expire_after(&self, uploads: usize) {
        self.set(EXPIRED, uploads);
    }

    /// All is well again.
    pub fn recover(&self) {
        self.set(FINE, 0);
    }

    fn set(&self, mode: usize, uploads: usize) {
        self.weather.after.store(uploads, Ordering::SeqCst);
        self.weather.mode.store(mode, Ordering::SeqCst);
    }

    /// Uploads that were begun so far.
    pub fn uploads(&self) -> usize {
        self.weather.uploads.load(Ordering::SeqCst)
    }

    /// Where the server keeps an object.
    pub fn object(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.path().join(bucket).join(key)
    }
}
