//! From the layers to what holds.

use std::path::Path;

use figment::Figment;
use figment::value::Value;
use serde::Serialize;

use super::keys::{self, KEYS, Kind, PROPERTIES};
use super::layers::{Layer, Setting};
use super::{Config, ConfigError, database_url, security, values};
use crate::secret;

/// A key, what it is set to, and where that came from; fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value as text, masked if it is a secret; none: not set.
    pub value: Option<String>,
    /// `default`, a file, an environment variable or a flag.
    pub origin: String,
}

pub(super) fn settle(mut settings: Vec<Setting>) -> Result<Config, ConfigError> {
    take_from_file(&mut settings, "database.url", "database.url_file")?;
    take_from_file(&mut settings, &format!("{PROPERTIES}.sasl.password"), "kafka.sasl_password_file")?;
    take_from_file(&mut settings, "narrative.key", "narrative.key_file")?;
    take_from_file(&mut settings, "api.token", "api.token_file")?;
    database_url::check(&settings)?;
    security::stand_for_properties(&mut settings)?;
    security::check(&settings)?;
    refuse_a_narrative_without_a_model(&settings)?;
    keep_heartbeat_below_a_third(&mut settings)?;
    let figment = settings.into_iter().fold(Figment::new(), Figment::merge);
    let mut config: Config =
        figment.extract().map_err(|e| ConfigError::Conflict(e.to_string().replace('\n', " ")))?;
    config.entries = entries(&figment);
    Ok(config)
}

/// A secret's file stands for the secret, unless a higher layer has the secret itself.
fn take_from_file(settings: &mut Vec<Setting>, key: &str, file_key: &str) -> Result<(), ConfigError> {
    let property = key.strip_prefix(PROPERTIES).map(|name| name.trim_start_matches('.').to_owned());
    let is_direct = |s: &&Setting| match &property {
        Some(name) => s.path.len() == 3 && s.path[2] == *name,
        None => s.is(key),
    };
    let direct = settings.iter().rev().find(is_direct);
    let Some(by_file) = settings.iter().rev().find(|s| s.is(file_key)) else {
        return Ok(());
    };
    match direct.map(|d| d.layer.cmp(&by_file.layer)) {
        Some(std::cmp::Ordering::Greater) => return Ok(()),
        Some(std::cmp::Ordering::Equal) => {
            return Err(ConfigError::Conflict(format!(
                "{key} and {file_key} are both set ({}): only one of them is allowed",
                by_file.origin
            )));
        }
        Some(std::cmp::Ordering::Less) | None => {}
    }
    let path = by_file.value.as_str().unwrap_or_default().to_owned();
    let secret = read_secret(Path::new(&path), file_key)?;
    let (layer, origin) = (by_file.layer, format!("{path} ({file_key})"));
    settings.push(match (property, keys::find(key)) {
        (None, Some(known)) => Setting::of(known, &secret, layer, &origin)?,
        (property, _) => Setting::property(&property.unwrap_or_default(), &secret, layer, &origin)?,
    });
    Ok(())
}

fn read_secret(path: &Path, file_key: &str) -> Result<String, ConfigError> {
    let failed = |problem: String| ConfigError::File {
        path: path.display().to_string(),
        problem: format!("{file_key}: {problem}"),
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(failed("the file is empty".to_owned())),
        secret => Ok(secret.to_owned()),
    }
}

/// There is no model that every endpoint has.
fn refuse_a_narrative_without_a_model(settings: &[Setting]) -> Result<(), ConfigError> {
    let set = |key: &str| settings.iter().rev().find(|s| s.is(key));
    match (set("narrative.url"), set("narrative.model")) {
        (Some(url), None) => Err(ConfigError::Conflict(format!(
            "{}: narrative.url is set and narrative.model is not; allowed: both, or neither",
            url.origin
        ))),
        _ => Ok(()),
    }
}

/// A heartbeat that comes too seldom costs a living member its partitions. A default one follows a short session timeout.
fn keep_heartbeat_below_a_third(settings: &mut Vec<Setting>) -> Result<(), ConfigError> {
    let last = |key: &str| settings.iter().rev().find(|s| s.is(key));
    let read = |s: &Setting| s.value.as_str().and_then(values::parse_duration);
    let (Some(heartbeat), Some(session)) = (last("kafka.heartbeat_interval"), last("kafka.session_timeout"))
    else {
        return Ok(());
    };
    let (Some(interval), Some(timeout)) = (read(heartbeat), read(session)) else {
        return Ok(());
    };
    if interval <= timeout / 3 {
        return Ok(());
    }
    if heartbeat.layer != Layer::Default {
        return Err(ConfigError::Conflict(format!(
            "{}: kafka.heartbeat_interval is {}; allowed: at most a third of kafka.session_timeout, which is {}",
            heartbeat.origin,
            values::show_duration(interval),
            values::show_duration(timeout)
        )));
    }
    let third = std::time::Duration::from_millis((timeout / 3).as_millis() as u64);
    let derived = Setting {
        value: Value::from(values::show_duration(third)),
        origin: "a third of kafka.session_timeout".to_owned(),
        ..heartbeat.clone()
    };
    settings.push(derived);
    Ok(())
}

fn entries(figment: &Figment) -> Vec<Entry> {
    let origin = |value: &Value| figment.get_metadata(value.tag()).map_or("default", |m| &m.name).to_owned();
    let mut entries = Vec::new();
    for key in KEYS {
        let value = figment.find_value(key.name).ok();
        let shown = value.as_ref().map(|v| match (v.to_i128(), key.kind) {
            (Some(number), Kind::Bytes(..)) => values::show_bytes(number as i64),
            (Some(number), _) => number.to_string(),
            (None, _) => key.shown(v.as_str().unwrap_or_default()),
        });
        let origin = value.as_ref().map_or_else(|| "default".to_owned(), &origin);
        entries.push(Entry { key: key.name.to_owned(), value: shown, origin });
    }
    let properties = figment.find_value(PROPERTIES).ok().and_then(Value::into_dict).unwrap_or_default();
    for (name, value) in properties {
        let text = value.as_str().unwrap_or_default();
        let shown = if secret::is_secret_name(&name) { secret::MASK } else { text };
        entries.push(Entry {
            key: format!("{PROPERTIES}.{name}"),
            value: Some(shown.to_owned()),
            origin: origin(&value),
        });
    }
    entries
}
