//! TLS: which certificate a server shows, what is wrong with it in one line, and when it expires.
//!
//! The clients that work verify for themselves: librdkafka by OpenSSL, the PostgreSQL clients by rustls. What is here looks at a
//! server beside them, because OpenSSL tells librdkafka no more than "certificate verify failed", and because none of them tells
//! when a certificate will expire. Nothing is sent to the server that is looked at.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

pub mod expiry;
mod validity;

pub use validity::expires_at;

/// How long a server may take to show its certificate.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where systems keep the certificates of the authorities that they trust.
const SYSTEM_CA_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
];

/// What a server wants to hear before TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing: TLS begins at once, as with Kafka.
    None,
    /// PostgreSQL's request for TLS.
    Postgres,
}

/// A server, and what it is measured by.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name, which its certificate must be for.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it wants to hear first.
    pub greeting: Greeting,
    /// The certificates of the authorities that are trusted; none: its certificate is only looked at.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and key, where it asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What a server showed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When its certificate expires; none: it could not be read.
    pub expires_at: Option<DateTime<Utc>>,
    /// What is wrong with it, in one line; none: nothing, or it was not measured.
    pub wrong: Option<String>,
}

/// Why a server's certificate could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// There is nobody, or nobody who answers.
    #[error("{0}")]
    Away(String),
    /// The server does not speak TLS, or a file of ours cannot be read.
    #[error("{0}")]
    Unfit(String),
}

impl From<String> for LookError {
    fn from(problem: String) -> LookError {
        LookError::Unfit(problem)
    }
}

/// The file of trusted authorities that this system has; `SSL_CERT_FILE` names another.
pub fn system_ca_file() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty()).map(PathBuf::from);
    named.or_else(|| SYSTEM_CA_FILES.iter().map(PathBuf::from).find(|path| path.is_file()))
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// One line that names the file.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |problem: String| format!("{}: {problem}", file.display());
    let pem = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(failed("no certificate in it; allowed: PEM, BEGIN CERTIFICATE".to_owned())),
        Err(error) => Err(failed(format!("not a PEM file of certificates: {error}"))),
    }
}

/// Looks at a server's certificate.
///
/// # Errors
/// [`LookError`], one line.
pub async fn look(server: &Server) -> Result<Seen, LookError> {
    let at = format!("{}:{}", server.host, server.port);
    let looked = tokio::time::timeout(PATIENCE, shake_hands(server, &at)).await;
    looked.unwrap_or_else(|_| {
        Err(LookError::Away(format!("{at} did not show a certificate within {} s", PATIENCE.as_secs())))
    })
}

async fn shake_hands(server: &Server, at: &str) -> Result<Seen, LookError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Observing::new(server, Arc::clone(&provider))?);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
    let config = match &server.identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| format!("{}: not a PEM file of a private key: {e}", key.display()))?;
            config.with_client_auth_cert(certificates(certificate)?, key).map_err(|e| e.to_string())?
        }
        None => config.with_no_client_auth(),
    };
    let name =
        ServerName::try_from(server.host.clone()).map_err(|_| format!("{at}: not the name of a host"))?;
    let mut stream = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .map_err(|e| LookError::Away(format!("nobody answers at {at}: {e}")))?;
    if server.greeting == Greeting::Postgres {
        ask_postgres_for_tls(&mut stream).await.map_err(|problem| format!("{at}: {problem}"))?;
    }
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let seen = verifier.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, shaken) {
        (Some(seen), _) => Ok(seen),
        (None, Err(error)) => Err(LookError::Unfit(format!("{at} does not speak TLS: {error}"))),
        (None, Ok(_)) => Err(LookError::Unfit(format!("{at} showed no certificate"))),
    }
}

/// The SSLRequest of PostgreSQL's protocol: length 8, code 80877103; the answer is one byte.
async fn ask_postgres_for_tls(stream: &mut TcpStream) -> Result<(), String> {
    let lost = |e: std::io::Error| e.to_string();
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        b'S' => Ok(()),
        _ => Err("PostgreSQL does not offer TLS here".to_owned()),
    }
}

/// The same of whatever error has rustls's in it; none: it is about something else.
pub fn explained(cause: &(dyn std::error::Error + 'static), host: &str, trusted: &str) -> Option<String> {
    let wrapped = || cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Error>();
    cause.downcast_ref::<Error>().or_else(wrapped).map(|error| in_words(error, host, trusted))
}

/// What is wrong with a certificate, in words; `host` is who was asked for, `trusted` whose word counts.
pub fn in_words(error: &Error, host: &str, trusted: &str) -> String {
    let Error::InvalidCertificate(error) = error else {
        return format!("the TLS handshake with {host} failed: {error}");
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {host} has expired{}", context(error))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {host} is not valid yet{}", context(error))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate of {host} is for another host{}", context(error))
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("the certificate of {host} is signed by nobody in {trusted}")
        }
        CertificateError::Revoked => format!("the certificate of {host} was revoked"),
        other => format!("the certificate of {host} is not accepted: {other}"),
    }
}

/// What rustls knows besides: until when it held, which names it has.
fn context(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!(" ({})", moment(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(" (before {})", moment(*not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            // Such as DnsName("localhost").
            let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
            let names: Vec<String> = presented.iter().map(bare).collect();
            format!(" ({})", names.join(", "))
        }
        _ => String::new(),
    }
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    seconds.and_then(|s| DateTime::from_timestamp(s, 0)).map(|at| at.to_rfc3339()).unwrap_or_default()
}

/// Takes every certificate, and writes down what a client that means it would have said.
#[derive(Debug)]
struct Observing {
    strict: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    host: String,
    trusted: String,
    seen: Mutex<Option<Seen>>,
}

impl Observing {
    fn new(server: &Server, provider: Arc<CryptoProvider>) -> Result<Observing, String> {
        let trusted = server.ca_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let strict = match &server.ca_file {
            Some(file) => {
                let mut roots = RootCertStore::empty();
                // One that rustls cannot use does not spoil the others: a system's bundle may hold old kinds.
                let (used, _) = roots.add_parsable_certificates(certificates(file)?);
                if used == 0 {
                    return Err(format!("{trusted}: no certificate in it can be used"));
                }
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                Some(verifier.build().map_err(|e| format!("{trusted}: {e}"))?)
            }
            None => None,
        };
        let at = format!("{}:{}", server.host, server.port);
        Ok(Observing { strict, provider, host: at, trusted, seen: Mutex::default() })
    }
}

impl ServerCertVerifier for Observing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.strict.as_ref().map(|strict| {
            strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        let wrong = match verdict {
            Some(Err(error)) => Some(in_words(&error, &self.host, &self.trusted)),
            Some(Ok(_)) | None => None,
        };
        let seen = Seen { expires_at: expires_at(end_entity), wrong };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
