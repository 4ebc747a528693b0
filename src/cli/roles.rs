//! `stocktide roles`: the SQL that makes the services' group roles.

use std::process::ExitCode;

use stocktide_runtime::Config;
use stocktide_store::roles::{self, Role};

use super::say;

/// Print the SQL that makes the group roles of the services, for whoever may make roles.
///
/// The rights are given by the owner, at each `stocktide migrate`, to those of the roles that exist. This command connects to
/// nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide roles | psql postgres://postgres@db/stocktide      once per server; it can be run again
  stocktide migrate                                            as the owner: gives the roles their rights

Then one user per service, as a member: CREATE ROLE stocktide_processor_1 LOGIN PASSWORD '…' IN ROLE stocktide_processor;
docs/roles.md has who may do what.")]
pub struct RolesArgs {
    /// One JSON object on one line: the names, and the SQL.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the answer cannot be written.
#[expect(clippy::unused_async, reason = "all commands are run alike")]
pub async fn run(args: RolesArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let prefix = &config.database.role_prefix;
    let sql = roles::creation(prefix);
    if args.json {
        let names = Role::ALL.map(|role| role.name(prefix));
        say(serde_json::json!({ "roles": names, "sql": sql }))?;
    } else {
        say(sql.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
