//! TLS for the processor's connection (tokio-postgres has none of its own): the server's certificate must be for its host, and
//! signed by whom the URL's `sslrootcert` names. sqlx reads the same parameters itself.

use std::error::Error;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How a server is reached.
pub(crate) struct Way {
    /// Without what tokio-postgres knows nothing of.
    pub config: tokio_postgres::Config,
    /// None: in clear.
    pub tls: Option<Tls>,
}

impl Way {
    /// Of a URL; without `sslmode=verify-full` it is in clear.
    ///
    /// # Errors
    /// One line: the URL is none, its mode is another one, a file cannot be read.
    pub(crate) fn of(url: &str) -> Result<Way, String> {
        let (bare, parameters) = split(url);
        let of =
            |name: &str| parameters.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let mut config: tokio_postgres::Config =
            bare.parse().map_err(|e| format!("the database URL is not valid: {e}"))?;
        let tls = match of("sslmode") {
            None | Some("disable") => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                None
            }
            Some("verify-full") => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                let root =
                    of("sslrootcert").ok_or("the database URL has sslmode=verify-full and no sslrootcert")?;
                Some(Tls::trusting(Path::new(root), of("sslcert").zip(of("sslkey")))?)
            }
            Some(other) => {
                return Err(format!("the database URL has sslmode={other}; allowed: verify-full or disable"));
            }
        };
        Ok(Way { config, tls })
    }
}

/// The URL without its TLS parameters, and these.
fn split(url: &str) -> (String, Vec<(String, String)>) {
    let Some((place, query)) = url.rsplit_once('?') else { return (url.to_owned(), Vec::new()) };
    let is_tls = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        ["sslmode", "sslrootcert", "sslcert", "sslkey"].contains(&name)
    };
    let (tls, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_tls);
    let parameters = url::form_urlencoded::parse(tls.join("&").as_bytes()).into_owned().collect();
    let bare = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
    (bare, parameters)
}

/// Makes TLS connections.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    fn trusting(root: &Path, identity: Option<(&str, &str)>) -> Result<Tls, String> {
        let mut roots = RootCertStore::empty();
        // One that cannot be used does not spoil the others: a system's bundle may hold old kinds.
        let (used, _) = roots.add_parsable_certificates(certificates(root)?);
        if used == 0 {
            return Err(format!("{}: no certificate in it (sslrootcert)", root.display()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => {
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{key}: {e} (sslkey)"))?;
                config
                    .with_client_auth_cert(certificates(Path::new(certificate))?, private)
                    .map_err(|e| format!("{certificate}: {e} (sslcert)"))?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Tls(Arc::new(config)))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: String| format!("{}: {error}", file.display());
    let pem = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = To;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<To> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|e| io::Error::other(format!("{host}: {e}")))?;
        Ok(To { config: Arc::clone(&self.0), name })
    }
}

/// A host that is about to be connected to.
pub(crate) struct To {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S> TlsConnect<S> for To
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted<S>, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let stream = TlsConnector::from(self.config).connect(self.name, stream).await?;
            Ok(Encrypted(stream))
        })
    }
}

/// A connection under TLS.
pub(crate) struct Encrypted<S>(TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Encrypted<S> {
    /// None: the certificate itself is verified, and sqlx has none either.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_about_tls_is_taken_out_of_a_url() {
        let (bare, tls) =
            split("postgres://a:p%3F@b/c?sslmode=verify-full&application_name=x&sslrootcert=/a%20b.pem");
        assert_eq!(bare, "postgres://a:p%3F@b/c?application_name=x");
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(tls, [of("sslmode", "verify-full"), of("sslrootcert", "/a b.pem")]);
        assert_eq!(split("postgres://a@b/c").0, "postgres://a@b/c");
    }

    #[test]
    fn nothing_falls_back_to_less() {
        assert!(Way::of("postgres://a@b/c").unwrap().tls.is_none());
        assert!(Way::of("postgres://a@b/c?sslmode=disable").unwrap().tls.is_none());
        let refused = |url: &str| Way::of(url).err().unwrap();
        let allowed = "the database URL has sslmode=prefer; allowed: verify-full or disable";
        assert_eq!(refused("postgres://a@b/c?sslmode=prefer"), allowed);
        let missing = refused("postgres://a@b/c?sslmode=verify-full&sslrootcert=/nowhere.pem");
        assert_eq!(missing, "/nowhere.pem: No such file or directory (os error 2)");
    }
}
