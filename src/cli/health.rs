//! `stocktide health`: asks a running service whether it is ready, so that an image needs no other program for that.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use stocktide_runtime::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Usage, say};

/// The most of an answer that is read, in bytes.
const ANSWER: u64 = 64 * 1024;

/// Ask a running service whether it is ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  STOCKTIDE_ADMIN_LISTEN=127.0.0.1:9100 stocktide health      the service of these settings: /ready at its admin.listen
  stocktide health --live                                     whether it runs at all
  stocktide health --url http://127.0.0.1:9100/ready

Exit code 0: yes. 1: no, or nobody answers.")]
pub struct HealthArgs {
    /// Ask this, instead of /ready at admin.listen.
    #[arg(long, value_name = "URL", conflicts_with = "live")]
    url: Option<Url>,
    /// Ask /live, which answers while the process runs, instead of /ready.
    #[arg(long)]
    live: bool,
    /// Give up after so long.
    #[arg(long, value_name = "DURATION", default_value = "4s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// One JSON object on one line.
    #[arg(long)]
    json: bool,
}

/// An address to ask: `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    /// `HOST:PORT`.
    authority: String,
    /// From the slash on.
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let allowed = || "allowed: http://HOST:PORT/PATH".to_owned();
        let rest = text.strip_prefix("http://").ok_or_else(allowed)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "ready"));
        let (host, port) = authority.rsplit_once(':').ok_or_else(allowed)?;
        let is_sound = !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0);
        if !is_sound || text.contains(char::is_whitespace) || text.contains(char::is_control) {
            return Err(allowed());
        }
        Ok(Url { authority: authority.to_owned(), path: format!("/{path}") })
    }
}

/// Runs it.
///
/// # Errors
/// When it is not known whom to ask.
pub async fn run(args: HealthArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let url = match args.url {
        Some(url) => url,
        None => of_listen(&config.admin.listen, if args.live { "/live" } else { "/ready" })?,
    };
    let asked = tokio::time::timeout(args.timeout, ask(&url)).await;
    let timeout = || format!("no answer within {}", humantime::format_duration(args.timeout));
    let (ok, said) = match asked.with_context(timeout).and_then(|answer| answer) {
        Ok((200, body)) => (true, body),
        Ok((_, body)) => (false, reasons(&body).unwrap_or(body)),
        Err(error) => (false, format!("http://{}{}: {error:#}", url.authority, url.path)),
    };
    if args.json {
        say(json!({ "ok": ok, "said": said }))?;
    } else if ok {
        say(said)?;
    } else {
        bail!("{said}");
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The path at the address that a service listens on, as seen from the same machine.
fn of_listen(listen: &str, path: &str) -> Result<Url, Usage> {
    let authority = match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let loopback = if address.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            format!("{loopback}:{}", address.port())
        }
        _ => listen.to_owned(),
    };
    if authority.ends_with(":0") {
        return Err(Usage(format!(
            "admin.listen is {listen}, a port that only the service knows: name it with --url http://HOST:PORT/ready, or give the service a port"
        )));
    }
    Ok(Url { authority, path: path.to_owned() })
}

/// The status and the body of the answer.
async fn ask(url: &Url) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(&url.authority).await?;
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.path, url.authority);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer)).context("the answer is not HTTP")
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.trim().to_owned()))
}

/// What `/ready` says is failing, in one line.
fn reasons(body: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(body).ok()?;
    let failing = answer.get("failing")?.as_object()?;
    let part = |(part, reason): (&String, &serde_json::Value)| Some(format!("{part}: {}", reason.as_str()?));
    let parts: Option<Vec<String>> = failing.iter().map(part).collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| format!("not ready: {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use stocktide_runtime::admin::{self, Health};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_the_loopback() {
        let asked = |listen| of_listen(listen, "/ready").map(|url| url.authority).ok();
        assert_eq!(asked("0.0.0.0:9100").as_deref(), Some("127.0.0.1:9100"));
        assert_eq!(asked("[::]:9100").as_deref(), Some("[::1]:9100"));
        assert_eq!(asked("10.1.2.3:9100").as_deref(), Some("10.1.2.3:9100"));
        assert_eq!(asked("localhost:9100").as_deref(), Some("localhost:9100"));
        assert_eq!(asked("127.0.0.1:0"), None);
    }

    #[test]
    fn a_url_has_a_host_and_a_port() {
        let url = |text: &str| text.parse::<Url>().map(|url| (url.authority, url.path)).ok();
        let pair = |authority: &str, path: &str| Some((authority.to_owned(), path.to_owned()));
        assert_eq!(url("http://a:1/live"), pair("a:1", "/live"));
        assert_eq!(url("http://[::1]:9100"), pair("[::1]:9100", "/ready"));
        for refused in
            ["a:1/live", "https://a:1/", "http://a/", "http://:1/", "http://a:0/", "http://a:1/\r\nX:"]
        {
            assert_eq!(url(refused), None, "{refused}");
        }
    }

    #[tokio::test]
    async fn what_is_not_ready_is_named() {
        let (health, stop) = (Health::new(), CancellationToken::new());
        let registry = prometheus::Registry::new();
        let address = admin::serve("127.0.0.1:0", registry, health.clone(), stop.clone()).await.unwrap();
        let url = of_listen(&address.to_string(), "/ready").unwrap();
        assert_eq!(ask(&url).await.unwrap().0, 200);
        health.set("kafka", Err("no broker answers".to_owned()));
        let (status, body) = ask(&url).await.unwrap();
        assert_eq!((status, reasons(&body).unwrap().as_str()), (503, "not ready: kafka: no broker answers"));
        assert_eq!(ask(&of_listen(&address.to_string(), "/live").unwrap()).await.unwrap().0, 200);
        stop.cancel();
    }
}
