//! `stocktide api`: statistics, stock and intake over HTTP.

use std::process::ExitCode;

use prometheus::Registry;
use stocktide_api::Api;
use stocktide_runtime::admin::{self, Health};
use stocktide_runtime::{Config, shutdown};

/// Serve statistics, stock, reports and intake over HTTP, with the live console at /, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide api                                            on http://127.0.0.1:8080; what there is: /docs
  stocktide api --listen 127.0.0.1:9000
  STOCKTIDE_API_TOKEN=… stocktide api --listen 0.0.0.0:8080

Beyond loopback it needs a token (api.token). It starts without the database, the schema or Kafka, says at /health which part
is missing, and goes on by itself once it is there. Several may run at once.")]
pub struct ApiArgs {
    // Its value is in the configuration: see `flag`.
    /// Where it listens, instead of api.listen's; port 0 takes a free one and logs it.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

impl ApiArgs {
    /// The flag as a layer of the configuration.
    pub fn flag(&self) -> Option<String> {
        self.listen.clone()
    }
}

/// Runs it.
///
/// # Errors
/// When the settings do not allow it, or the address cannot be listened on.
pub async fn run(_args: ApiArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (registry, health) = (Registry::new(), Health::new());
    let stop = shutdown::on_signal();
    let api = Api::bind(config, registry.clone(), health.clone()).await?;
    admin::serve(&config.admin.listen, registry, health, stop.clone()).await?;
    api.serve(stop).await?;
    Ok(ExitCode::SUCCESS)
}
