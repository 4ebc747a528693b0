//! The keys for TLS and SASL to Kafka. Each stands for a property of librdkafka.

use super::ConfigError;
use super::keys::PROPERTIES;
use super::layers::Setting;

/// Our keys, and the properties that they stand for.
const STAND_FOR: [(&str, &str); 7] = [
    ("kafka.security_protocol", "security.protocol"),
    ("kafka.ca_file", "ssl.ca.location"),
    ("kafka.certificate_file", "ssl.certificate.location"),
    ("kafka.key_file", "ssl.key.location"),
    ("kafka.sasl_mechanism", "sasl.mechanism"),
    ("kafka.sasl_username", "sasl.username"),
    // The client hands it to whoever makes its tokens: see `kafka::token`.
    ("kafka.oauth_token_file", "sasl.oauthbearer.config"),
];

/// Puts what our keys say among the properties, unless a higher layer has the property itself.
pub(super) fn stand_for_properties(settings: &mut Vec<Setting>) -> Result<(), ConfigError> {
    for (key, property) in STAND_FOR {
        let Some(ours) = settings.iter().rev().find(|s| s.is(key)).cloned() else { continue };
        let direct = settings.iter().rev().find(|s| s.is_property(property));
        match direct.map(|direct| direct.layer.cmp(&ours.layer)) {
            Some(std::cmp::Ordering::Greater) => continue,
            Some(std::cmp::Ordering::Equal) => {
                return Err(ConfigError::Conflict(format!(
                    "{key} and {PROPERTIES}.{property} are both set ({}): only one of them is allowed",
                    ours.origin
                )));
            }
            Some(std::cmp::Ordering::Less) | None => {}
        }
        let text = ours.value.as_str().unwrap_or_default();
        let origin = format!("{} ({key})", ours.origin);
        settings.push(Setting::own_property(property, text, ours.layer, &origin));
    }
    Ok(())
}

/// Refuses what cannot work, before a client is made of it.
pub(super) fn check(settings: &[Setting]) -> Result<(), ConfigError> {
    let of = |name: &str| {
        let found = settings.iter().rev().find(|s| s.is_property(name))?;
        found.value.as_str().map(str::to_owned)
    };
    let either = |one: &str, other: &str| of(one).or_else(|| of(other));
    let conflict = |problem: &str| Err(ConfigError::Conflict(problem.to_owned()));
    let certificate = either("ssl.certificate.location", "ssl.certificate.pem");
    let key = either("ssl.key.location", "ssl.key.pem");
    if of("ssl.keystore.location").is_none() && certificate.is_some() != key.is_some() {
        return conflict(
            "one of kafka.certificate_file and kafka.key_file is set; allowed: both, or neither",
        );
    }
    let protocol = of("security.protocol").unwrap_or_default().to_ascii_lowercase();
    if !protocol.starts_with("sasl_") {
        return Ok(());
    }
    let Some(mechanism) = either("sasl.mechanism", "sasl.mechanisms") else {
        return conflict(
            "kafka.security_protocol asks for SASL, and kafka.sasl_mechanism is not set; allowed: SCRAM-SHA-512, \
             SCRAM-SHA-256, PLAIN or OAUTHBEARER",
        );
    };
    match mechanism.as_str() {
        "OAUTHBEARER" if of("sasl.oauthbearer.config").is_none() => {
            conflict("kafka.sasl_mechanism is OAUTHBEARER, and kafka.oauth_token_file is not set")
        }
        "OAUTHBEARER" => Ok(()),
        _ if of("sasl.username").is_none() => {
            conflict("kafka.security_protocol asks for SASL, and kafka.sasl_username is not set")
        }
        _ if of("sasl.password").is_none() => {
            conflict("kafka.security_protocol asks for SASL, and kafka.sasl_password_file is not set")
        }
        _ => Ok(()),
    }
}
