//! The command line of Stocktide: parse, settle the configuration, hand over to the command.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::door::hide_password();
    let command_line = match cli::parse() {
        Ok(command_line) => command_line,
        Err(code) => return code,
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime.block_on(cli::run(command_line));
            // A call into a client library that hangs ends with the process, and does not hold it up.
            runtime.shutdown_background();
            outcome
        });
    outcome.unwrap_or_else(|error| cli::failure(&error))
}
