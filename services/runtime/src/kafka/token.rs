//! OAUTHBEARER: a token that somebody else keeps fresh in a file (Kubernetes' projected service accounts, a sidecar, a timer).
#![allow(unsafe_code)]

use std::error::Error;
use std::ffi::CString;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::bindings as rd;
use rdkafka::client::OAuthToken;
use rdkafka::{ClientConfig, ClientContext};

/// What of a token's content is needed.
#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970.
    exp: f64,
}

/// The token in a file. librdkafka asks for it at a client's start and when four fifths of its time are over; the file is what
/// `sasl.oauthbearer.config` says.
///
/// # Errors
/// One line that names the file, and shows nothing of its content.
pub fn token(file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
    let file = file.ok_or("kafka.oauth_token_file is not set")?;
    let text = std::fs::read_to_string(file).map_err(|e| format!("kafka.oauth_token_file: {file}: {e}"))?;
    let token = text.trim();
    let claims = claims(token)
        .ok_or_else(|| format!("kafka.oauth_token_file: {file}: no JWT with sub and exp in it"))?;
    Ok(OAuthToken {
        token: token.to_owned(),
        principal_name: claims.sub,
        lifetime_ms: (claims.exp * 1_000.0) as i64,
    })
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Gives a new client its first token. A client that is polled asks for it by itself; one that is only asked for metadata, or
/// an admin client, which nobody polls, would wait for it in vain.
///
/// # Errors
/// When there is none to be had; see [`token`].
pub fn give_token<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    config: &ClientConfig,
) -> Result<(), String> {
    let mechanism = config.get("sasl.mechanism").or_else(|| config.get("sasl.mechanisms"));
    if mechanism != Some("OAUTHBEARER") {
        return Ok(());
    }
    let OAuthToken { token, principal_name, lifetime_ms } =
        token(config.get("sasl.oauthbearer.config")).map_err(|e| e.to_string())?;
    let texts = CString::new(token).and_then(|token| Ok((token, CString::new(principal_name)?)));
    let (token, principal) = texts.map_err(|_| "kafka.oauth_token_file: a NUL in the token".to_owned())?;
    let mut error = [0; 512];
    // SAFETY: the handle is valid while the client lives, the texts end with NUL and are copied, and the error's buffer is as long
    // as is said.
    let code = unsafe {
        rd::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            token.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: librdkafka ends what it writes with NUL.
    let reason = unsafe { std::ffi::CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
    Err(format!("kafka.oauth_token_file: the token cannot be used: {reason}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    fn of(text: &str) -> Result<OAuthToken, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        token(file.path().to_str()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_token_says_whose_it_is_and_until_when() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"stocktide-api","exp":1800000000,"aud":"kafka"}"#);
        let read = of(&format!("e30.{payload}.c2ln\n")).unwrap();
        assert_eq!((read.principal_name.as_str(), read.lifetime_ms), ("stocktide-api", 1_800_000_000_000));
        assert!(!read.token.contains('\n'));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        for text in ["", "hush", "hush.hush.hush", "e30.e30.hush"] {
            let error = of(text).err().unwrap();
            assert!(error.ends_with(": no JWT with sub and exp in it") && !error.contains("hush"), "{error}");
        }
        let missing = token(Some("/nowhere")).err().unwrap().to_string();
        assert_eq!(missing, "kafka.oauth_token_file: /nowhere: No such file or directory (os error 2)");
    }
}
