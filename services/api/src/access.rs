//! Who may do what.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use stocktide_runtime::config::OpenReads;
use stocktide_runtime::{Config, ConfigError};
use subtle::ConstantTimeEq as _;

use crate::problem::Problem;
use crate::state::App;

/// The rules, settled once the address is known.
#[derive(Debug)]
pub struct Access {
    /// Of the token; none: there is no token.
    digest: Option<[u8; 32]>,
    /// Whether reading needs no token.
    open_reads: bool,
    /// Whether sending needs no token.
    open_writes: bool,
    /// Whether only requests that name this machine are let in without a token: a page of somebody else's must not reach
    /// the API through a name that it lets point here.
    only_local_names: bool,
}

impl Access {
    /// The rules of an API that listens on an address.
    ///
    /// # Errors
    /// [`ConfigError`] where everybody could reach it and nothing would be asked of them.
    pub fn of(config: &Config, address: SocketAddr) -> Result<Access, ConfigError> {
        let is_local = address.ip().is_loopback();
        let api = &config.api;
        if !is_local && api.token.is_none() && api.open_reads != OpenReads::Always {
            return Err(ConfigError::Conflict(format!(
                "api.listen is {}, which others can reach, and api.token is not set; allowed: a token, a loopback \
                 address, or api.open_reads = \"always\", which lets anybody read",
                api.listen
            )));
        }
        let open_reads = match api.open_reads {
            OpenReads::Loopback => is_local,
            OpenReads::Always => true,
            OpenReads::Never => false,
        };
        Ok(Access {
            digest: api.token.as_ref().map(|token| digest(token.expose().as_bytes())),
            open_reads,
            open_writes: is_local && api.token.is_none(),
            only_local_names: api.open_reads != OpenReads::Always,
        })
    }

    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            return self.check_token(given.as_bytes());
        }
        match (if is_read { self.open_reads } else { self.open_writes }, &self.digest) {
            (true, _) if self.only_local_names && !is_local_name(headers) => Err(Problem::forbidden(
                "without a token only requests to localhost or to an IP address are answered",
            )),
            (true, _) => Ok(()),
            (false, Some(_)) => {
                Err(Problem::unauthorized("send Authorization: Bearer and the token (api.token)"))
            }
            (false, None) => Err(Problem::forbidden("there is no token (api.token), so nobody may do this")),
        }
    }

    fn check_token(&self, given: &[u8]) -> Result<(), Problem> {
        let refused = |why: &str| Err(Problem::unauthorized(why));
        let Some(expected) = &self.digest else {
            return refused("there is no token to compare with (api.token)");
        };
        let (scheme, token) = given.split_at_checked(7).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return refused("the header Authorization must be Bearer and the token");
        }
        // Digests have one length whatever the token has, and are compared in constant time.
        if bool::from(digest(token).ct_eq(expected)) { Ok(()) } else { refused("the token is wrong") }
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn is_local_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// What tells nothing of the business, and is there for whoever comes.
fn is_public(path: &str) -> bool {
    ["/", "/health", "/docs", "/openapi.json"].contains(&path)
        || ["/console/", "/docs/"].iter().any(|folder| path.starts_with(folder))
}

/// Lets in who may.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    if !is_public(request.uri().path())
        && let Err(problem) = app.access.check(request.method(), request.headers())
    {
        return problem.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;
    use stocktide_runtime::config::Sources;

    use super::*;

    fn access(address: &str, settings: &[(&str, &str)]) -> Result<Access, ConfigError> {
        let environment =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let config = Config::load(&Sources { file: None, environment, flags: Vec::new() }).unwrap();
        Access::of(&config, address.parse().unwrap())
    }

    fn status(access: &Access, method: &Method, headers: &[(&'static str, &'static str)]) -> u16 {
        let headers =
            headers.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect();
        access.check(method, &headers).map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    const TOKEN: (&str, &str) = ("STOCKTIDE_API_TOKEN", "s3cret");
    const RIGHT: (&str, &str) = ("authorization", "Bearer s3cret");
    const WRONG: (&str, &str) = ("authorization", "Bearer s3cre");

    #[test]
    fn what_others_can_reach_needs_a_token_or_a_clear_word() {
        assert!(access("0.0.0.0:80", &[]).unwrap_err().to_string().contains("api.token is not set"));
        assert!(access("0.0.0.0:80", &[("STOCKTIDE_API_OPEN_READS", "never")]).is_err());
        let open = access("0.0.0.0:80", &[("STOCKTIDE_API_OPEN_READS", "always")]).unwrap();
        assert_eq!((status(&open, &Method::GET, &[]), status(&open, &Method::POST, &[])), (200, 403));
        let closed = access("192.0.2.1:80", &[TOKEN]).unwrap();
        for method in [Method::GET, Method::POST] {
            assert_eq!(status(&closed, &method, &[]), 401);
            assert_eq!(status(&closed, &method, &[WRONG]), 401);
            assert_eq!(status(&closed, &method, &[RIGHT]), 200);
        }
    }

    #[test]
    fn on_loopback_reading_is_open_and_sending_is_too_where_there_is_no_token() {
        let open = access("127.0.0.1:80", &[]).unwrap();
        assert_eq!((status(&open, &Method::GET, &[]), status(&open, &Method::POST, &[])), (200, 200));
        assert_eq!(status(&open, &Method::GET, &[RIGHT]), 401);
        let guarded = access("[::1]:80", &[TOKEN]).unwrap();
        assert_eq!((status(&guarded, &Method::GET, &[]), status(&guarded, &Method::POST, &[])), (200, 401));
        assert_eq!(status(&guarded, &Method::GET, &[WRONG]), 401);
        assert_eq!(status(&guarded, &Method::POST, &[("authorization", "Basic s3cret")]), 401);
        let shut = access("127.0.0.1:80", &[TOKEN, ("STOCKTIDE_API_OPEN_READS", "never")]).unwrap();
        assert_eq!((status(&shut, &Method::GET, &[]), status(&shut, &Method::GET, &[RIGHT])), (401, 200));
    }

    #[test]
    fn a_name_that_somebody_else_gave_the_machine_lets_nobody_in_without_a_token() {
        let open = access("127.0.0.1:80", &[]).unwrap();
        for (host, expected) in [
            ("localhost:80", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
            ("evil.example", 403),
            ("LOCALHOST", 200),
        ] {
            assert_eq!(status(&open, &Method::GET, &[("host", host)]), expected, "{host}");
        }
    }
}
