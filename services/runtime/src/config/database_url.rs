//! How PostgreSQL is spoken to: in clear, or with TLS and a certificate that is verified; nothing between, since whatever falls
//! back to less can be made to.

use super::ConfigError;
use super::layers::Setting;
use crate::tls;

const ALLOWED: &str = "allowed: verify-full (TLS, and the server's certificate must be for its host and signed by sslrootcert), \
                       or disable (in clear)";

/// The parameters of a URL that are about TLS.
#[derive(Default)]
struct Tls<'a> {
    mode: Option<&'a str>,
    root: Option<&'a str>,
    certificate: Option<&'a str>,
    key: Option<&'a str>,
}

impl Tls<'_> {
    fn of(url: &str) -> Tls<'_> {
        let mut tls = Tls::default();
        let query = url.rsplit_once('?').map_or("", |(_, query)| query);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "sslmode" | "ssl-mode" => tls.mode = Some(value),
                "sslrootcert" | "ssl-root-cert" | "ssl-ca" => tls.root = Some(value),
                "sslcert" | "ssl-cert" => tls.certificate = Some(value),
                "sslkey" | "ssl-key" => tls.key = Some(value),
                _ => {}
            }
        }
        tls
    }
}

/// Refuses what would not be verified.
pub(super) fn check(settings: &[Setting]) -> Result<(), ConfigError> {
    let Some(url) = settings.iter().rev().find(|s| s.is("database.url")) else { return Ok(()) };
    let tls = Tls::of(url.value.as_str().unwrap_or_default());
    let refuse =
        |problem: String| Err(ConfigError::Conflict(format!("{}: database.url: {problem}", url.origin)));
    match tls.mode {
        Some("verify-full") if tls.certificate.is_some() != tls.key.is_some() => {
            refuse("one of sslcert and sslkey is set; allowed: both, or neither".to_owned())
        }
        Some("disable") | None if tls.root.or(tls.certificate).or(tls.key).is_some() => refuse(format!(
            "it has certificates, and sslmode is {}; {ALLOWED}",
            tls.mode.unwrap_or("not set")
        )),
        Some("verify-full" | "disable") | None => Ok(()),
        Some(other) => refuse(format!("sslmode is {other:?}; {ALLOWED}")),
    }
}

/// The URL with the mode in it, and with the authorities that are trusted: no client's default counts.
pub(super) fn explicit(url: &str) -> Result<String, ConfigError> {
    let tls = Tls::of(url);
    let add = |url: &str, parameter: &str| {
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}{parameter}")
    };
    match (tls.mode, tls.root) {
        (Some("verify-full"), None | Some("system")) => {
            let nobody = "database.url: sslmode is verify-full, and this system has no file of trusted authorities; set sslrootcert";
            let file = tls::system_ca_file().ok_or_else(|| ConfigError::Conflict(nobody.to_owned()))?;
            let without = url.replace("sslrootcert=system&", "").replace("sslrootcert=system", "");
            Ok(add(without.trim_end_matches(['&', '?']), &format!("sslrootcert={}", file.display())))
        }
        (Some(_), _) => Ok(url.to_owned()),
        (None, _) => Ok(add(url, "sslmode=disable")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_says_in_the_end_how_the_server_is_spoken_to() {
        for (url, wanted) in [
            ("postgres://a@b/c", "postgres://a@b/c?sslmode=disable"),
            ("postgres://a@b/c?application_name=x", "postgres://a@b/c?application_name=x&sslmode=disable"),
            ("postgres://a@b/c?sslmode=disable", "postgres://a@b/c?sslmode=disable"),
            (
                "postgres://a@b/c?sslmode=verify-full&sslrootcert=/ca.pem",
                "postgres://a@b/c?sslmode=verify-full&sslrootcert=/ca.pem",
            ),
        ] {
            assert_eq!(explicit(url).unwrap(), wanted);
        }
    }

    #[test]
    fn without_a_file_of_its_own_the_systems_authorities_are_trusted() {
        let Some(system) = tls::system_ca_file() else { return };
        let system = system.display();
        for url in [
            "postgres://a@b/c?sslmode=verify-full",
            "postgres://a@b/c?sslrootcert=system&sslmode=verify-full",
            "postgres://a@b/c?sslmode=verify-full&sslrootcert=system",
        ] {
            let wanted = format!("postgres://a@b/c?sslmode=verify-full&sslrootcert={system}");
            assert_eq!(explicit(url).unwrap(), wanted);
        }
    }
}
