//! A Google Cloud Storage server beside the test: fake-gcs-server behind a small front (`gcs/main.go`), built by Go.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A running server. It ends when it is dropped, and when this process ends.
pub struct GcsServer {
    process: Child,
    /// The server runs until this is closed.
    _alive: ChildStdin,
    endpoint: String,
}

impl GcsServer {
    /// Starts it with these buckets; the first start on a machine builds it, which takes minutes.
    pub fn start(buckets: &[&str]) -> GcsServer {
        // The crates that use it lie at different depths.
        let sources =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|at| at.join("tests/support/gcs"));
        let source = sources.into_iter().find(|source| source.join("main.go").is_file()).unwrap();
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gcs-for-tests");
        let built =
            Command::new("go").current_dir(source).args(["build", "-o"]).arg(&program).arg(".").status();
        assert!(built.expect("Go 1.23 or newer is needed for this test").success());
        let mut process =
            Command::new(program).args(buckets).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let alive = process.stdin.take().unwrap();
        let mut endpoint = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        GcsServer { process, _alive: alive, endpoint: endpoint.trim().to_owned() }
    }

    /// What a client has to set, under the names that it has in the environment.
    pub fn settings(&self) -> Vec<(String, String)> {
        let key = format!(
            r#"{{"gcs_base_url": "{}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}"#,
            self.endpoint
        );
        let settings = [("GOOGLE_SERVICE_ACCOUNT_KEY", key.as_str()), ("GOOGLE_ALLOW_HTTP", "true")];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

impl Drop for GcsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
