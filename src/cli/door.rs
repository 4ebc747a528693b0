//! The way in: whether Kafka and PostgreSQL let us in is asked before a command begins, so that a certificate that has expired or a
//! wrong password is one line at once, and not a row of retries. And a password that was given on the command line does not stay
//! there for everybody to read.

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use stocktide_runtime::secret::mask_url;
use stocktide_runtime::{Config, kafka, tls};

/// How long PostgreSQL may take to let us in.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks Kafka, where TLS or SASL are between us.
///
/// # Errors
/// [`kafka::Refused`]. Brokers that are away are no error.
pub async fn kafka(config: &Config) -> anyhow::Result<()> {
    Ok(kafka::reach(config).await?)
}

/// Asks PostgreSQL, for a service that would otherwise wait until it lets it in.
///
/// # Errors
/// What waiting does not change: the certificate, the user, the password, the rights on the database. A server that is away is no
/// error.
pub async fn database(config: &Config) -> anyhow::Result<()> {
    let Some(url) = config.database.url.as_ref().and(config.database_url().ok()) else { return Ok(()) };
    let connected = tokio::time::timeout(PATIENCE, PgConnection::connect(&url)).await;
    match connected {
        Ok(Ok(connection)) => Ok(connection.close().await.or_else(|error| passes(error.into()))?),
        Ok(Err(error)) => passes(error.into()).with_context(|| format!("PostgreSQL at {}", mask_url(&url))),
        Err(_) => Ok(()),
    }
}

fn passes(error: anyhow::Error) -> anyhow::Result<()> {
    let code = error.chain().find_map(|cause| match cause.downcast_ref::<sqlx::Error>()? {
        sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
        _ => None,
    });
    // 28: who we are is not believed; 42501: we may not connect.
    let refused = code.is_some_and(|code| code.starts_with("28") || code == "42501");
    let distrusted = error.chain().any(|cause| in_words(cause).is_some());
    if refused || distrusted { Err(error) } else { Ok(()) }
}

/// What is wrong with a certificate, if that is what this cause is about.
pub fn in_words(cause: &(dyn Error + 'static)) -> Option<String> {
    tls::explained(cause, "the server", "the file that sslrootcert names")
}

/// Where the URL of `--database-url` stands after [`hide_password`]. It is no configuration, and not for people.
pub const HIDDEN_FLAG: &str = "STOCKTIDE_DATABASE_URL_FLAG";

/// Starts this program anew with the database's URL in its environment, where it was given on the command line with a password:
/// other users of the machine can read command lines. It returns where there is nothing to hide, or no way to.
pub fn hide_password() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let Some((url, rest)) = without_password(&args) else { return };
    let Some((own, rest)) = rest.split_first() else { return };
    let Ok(program) = std::env::current_exe() else { return };
    let failed = std::process::Command::new(program).arg0(own).args(rest).env(HIDDEN_FLAG, url).exec();
    drop(failed);
}

/// The last `--database-url` that has a password, and the other arguments.
fn without_password(args: &[OsString]) -> Option<(OsString, Vec<OsString>)> {
    const FLAG: &str = "--database-url";
    let (mut url, mut rest) = (None, Vec::new());
    let mut left = args.iter();
    while let Some(arg) = left.next() {
        let text = arg.to_str().unwrap_or_default();
        if text == FLAG {
            url = Some(left.next()?.clone());
        } else if let Some(value) = text.strip_prefix("--database-url=") {
            url = Some(value.into());
        } else {
            rest.push(arg.clone());
        }
    }
    let url = url?;
    let has_password = url.to_str().is_some_and(|url| mask_url(url) != url);
    has_password.then_some((url, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(args: &[&str]) -> Option<(String, Vec<String>)> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        let text = |arg: OsString| arg.into_string().unwrap();
        without_password(&args).map(|(url, rest)| (text(url), rest.into_iter().map(text).collect()))
    }

    #[test]
    fn a_url_with_a_password_is_taken_off_the_command_line() {
        let (url, rest) =
            of(&["stocktide", "verify", "--database-url", "postgres://a:b@c/d", "--json"]).unwrap();
        assert_eq!(
            (url.as_str(), rest.join(" ").as_str()),
            ("postgres://a:b@c/d", "stocktide verify --json")
        );
        let (url, rest) = of(&["stocktide", "--database-url=postgres://c/d?password=b", "verify"]).unwrap();
        assert_eq!(
            (url.as_str(), rest.join(" ").as_str()),
            ("postgres://c/d?password=b", "stocktide verify")
        );
    }

    #[test]
    fn where_there_is_nothing_to_hide_nothing_changes() {
        assert_eq!(of(&["stocktide", "verify", "--database-url", "postgres://a@c/d"]), None);
        assert_eq!(of(&["stocktide", "verify"]), None);
        assert_eq!(of(&["stocktide", "verify", "--database-url"]), None);
    }
}
