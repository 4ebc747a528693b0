//! One PostgreSQL for the tests of a file; each test has a database of its own.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use stocktide_devstack::{Stack, StackOptions};

struct Server {
    runtime: tokio::runtime::Runtime,
    stack: Stack,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = StackOptions { kafka: false, ..StackOptions::default() };
        let stack = runtime.block_on(Stack::start(options)).unwrap();
        Server { runtime, stack }
    })
}

/// Runs a test on the server's runtime.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    server().runtime.block_on(test)
}

/// The URL of a new, empty database.
pub async fn empty() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server().stack.create_database(&name).await.unwrap()
}
