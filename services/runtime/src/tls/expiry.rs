//! When the certificates expire that an installation hangs on.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::{Greeting, Server, certificates, expires_at, look};
use crate::Config;
use crate::kafka::{client_config, tls_servers};

/// Which certificate, and when it expires or why that is not known.
pub type Expiry = (&'static str, Result<DateTime<Utc>, String>);

/// The certificates that servers show.
pub const OF_SERVERS: [&str; 2] = ["kafka_server", "postgres_server"];
/// Those that are kept in files.
pub const OF_FILES: [&str; 4] = ["kafka_ca", "kafka_client", "postgres_ca", "postgres_client"];

/// When the certificates in the configured files expire, of several the first. A file that is not configured is not there.
///
/// # Errors
/// One line that names the file.
pub fn of_files(config: &Config) -> Vec<Expiry> {
    let property = |name: &str| config.kafka.properties.get(name).cloned();
    let url = config.database.url.as_ref().map(|url| url.expose().to_owned()).unwrap_or_default();
    let files = [
        ("kafka_ca", property("ssl.ca.location")),
        ("kafka_client", property("ssl.certificate.location")),
        ("postgres_ca", parameter(&url, "sslrootcert").filter(|file| file != "system")),
        ("postgres_client", parameter(&url, "sslcert")),
    ];
    let named = files.into_iter().filter_map(|(what, file)| Some((what, file?)));
    named.map(|(what, file)| (what, first(Path::new(&file)))).collect()
}

/// When the servers' certificates expire, of several the first. One that is spoken to without TLS is not there.
///
/// # Errors
/// One line, when a server cannot be looked at.
pub async fn of_servers(config: &Config) -> Vec<Expiry> {
    let kafka = tls_servers(&client_config(config));
    let kafka = kafka.into_iter().map(|server| Server { ca_file: None, ..server });
    let mut brokers = Vec::new();
    for server in kafka {
        brokers.push(seen(&server).await);
    }
    let mut found = Vec::new();
    // One that is down says nothing of the others.
    let known: Vec<DateTime<Utc>> = brokers.iter().filter_map(|seen| seen.as_ref().ok().copied()).collect();
    match (known.into_iter().min(), brokers.into_iter().next()) {
        (Some(first), _) => found.push(("kafka_server", Ok(first))),
        (None, Some(broken)) => found.push(("kafka_server", broken)),
        (None, None) => {}
    }
    let url = config.database.url.as_ref().map(|url| url.expose().to_owned()).unwrap_or_default();
    if let Some(server) = postgres(&url) {
        found.push(("postgres_server", seen(&server).await));
    }
    found
}

async fn seen(server: &Server) -> Result<DateTime<Utc>, String> {
    let seen = look(server).await.map_err(|error| error.to_string())?;
    seen.expires_at.ok_or_else(|| format!("{}:{}: its certificate cannot be read", server.host, server.port))
}

fn first(file: &Path) -> Result<DateTime<Utc>, String> {
    let ends = certificates(file)?.iter().filter_map(|certificate| expires_at(certificate)).min();
    ends.ok_or_else(|| format!("{}: no certificate in it can be read", file.display()))
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.rsplit_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// The server of a URL that asks for TLS.
fn postgres(url: &str) -> Option<Server> {
    if parameter(url, "sslmode")? != "verify-full" {
        return None;
    }
    let place = url.split_once("://")?.1.rsplit_once('?')?.0;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let address = place.split('/').next()?;
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (address, 5432),
    };
    Some(Server {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        greeting: Greeting::Postgres,
        ca_file: None,
        identity: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_a_url_is_found_where_it_asks_for_tls() {
        let of = |url: &str| postgres(url).map(|server| (server.host, server.port));
        let found = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(of("postgres://a:p@ss@db.example:6432/c?sslmode=verify-full"), found("db.example", 6432));
        assert_eq!(of("postgres://a@db/c?x=y&sslmode=verify-full"), found("db", 5432));
        assert_eq!(of("postgres://a@[::1]:5433/c?sslmode=verify-full"), found("::1", 5433));
        assert_eq!(of("postgres://a@[::1]/c?sslmode=verify-full"), found("::1", 5432));
        assert_eq!(of("postgres://a@db/c?sslmode=disable"), None);
        assert_eq!(of("postgres://a@db/c"), None);
    }
}
