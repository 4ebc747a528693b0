//! The layers: each gives settings that have been checked one by one against the table of keys.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::ConfigError;
use super::keys::{self, Key, PROPERTIES, RESERVED_PROPERTIES};

/// Where the layers above the defaults come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file; it must be there.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not start with `STOCKTIDE_` are passed over.
    pub environment: Vec<(String, OsString)>,
    /// Flags, the highest layer.
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The key that it sets.
    pub key: &'static str,
    /// What it was given.
    pub value: String,
    /// Its name, with the dashes.
    pub flag: &'static str,
}

impl Sources {
    /// The process's own: the given file, else `STOCKTIDE_CONFIG`'s, else `stocktide.toml` if it is in the working directory.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Sources {
        let named = file
            .or_else(|| std::env::var_os("STOCKTIDE_CONFIG").filter(|f| !f.is_empty()).map(PathBuf::from));
        let usual = Path::new("stocktide.toml");
        let file = named.or_else(|| usual.exists().then(|| usual.to_owned()));
        let environment =
            std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).collect();
        Sources { file, environment, flags }
    }
}

/// The layers, from the lowest up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Default,
    File,
    Environment,
    Flag,
}

/// One value of one key, in one layer.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub path: Vec<String>,
    pub value: Value,
    pub layer: Layer,
    pub origin: String,
}

impl Setting {
    pub(super) fn of(key: &Key, text: &str, layer: Layer, origin: &str) -> Result<Setting, ConfigError> {
        let value = key.kind.parse(text).ok_or_else(|| ConfigError::WrongValue {
            origin: origin.to_owned(),
            key: key.name.to_owned(),
            value: format!("{:?}", key.shown(text)),
            allowed: key.kind.allowed(),
        })?;
        Ok(Setting {
            path: key.name.split('.').map(str::to_owned).collect(),
            value,
            layer,
            origin: origin.to_owned(),
        })
    }

    pub(super) fn property(
        name: &str,
        text: &str,
        layer: Layer,
        origin: &str,
    ) -> Result<Setting, ConfigError> {
        check_property(name, text, origin)?;
        Ok(Setting::own_property(name, text, layer, origin))
    }

    /// A property that a key of ours stands for.
    pub(super) fn own_property(name: &str, text: &str, layer: Layer, origin: &str) -> Setting {
        let path = PROPERTIES.split('.').chain([name]).map(str::to_owned).collect();
        Setting { path, value: Value::from(text), layer, origin: origin.to_owned() }
    }

    /// Whether it is that property of librdkafka.
    pub(super) fn is_property(&self, name: &str) -> bool {
        self.path.len() == 3 && self.path[2] == name && self.path[..2].join(".") == PROPERTIES
    }

    pub(super) fn is(&self, key: &str) -> bool {
        key.split('.').eq(self.path.iter().map(String::as_str))
    }
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut dict = Dict::new();
        let mut value = self.value.clone();
        for name in self.path.iter().rev() {
            dict = Dict::from([(name.clone(), value)]);
            value = Value::from(dict.clone());
        }
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// All settings, lowest layer first.
pub(super) fn collect(sources: &Sources) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for key in keys::KEYS {
        if let Some(default) = key.default {
            settings.push(Setting::of(key, default, Layer::Default, "default")?);
        }
    }
    if let Some(path) = &sources.file {
        read_file(path, &mut settings)?;
    }
    for (name, value) in &sources.environment {
        if let Some(setting) = from_variable(name, value)? {
            settings.push(setting);
        }
    }
    for Flag { key: name, value, flag } in &sources.flags {
        let key = keys::find(name).ok_or_else(|| unknown(flag, name))?;
        settings.push(Setting::of(key, value, Layer::Flag, flag)?);
    }
    Ok(settings)
}

fn unknown(origin: &str, name: &str) -> ConfigError {
    ConfigError::UnknownKey { origin: origin.to_owned(), name: name.to_owned(), allowed: keys::near(name) }
}

// The file ------------------------------------------------------------------------------------------------------------

fn read_file(path: &Path, settings: &mut Vec<Setting>) -> Result<(), ConfigError> {
    let file = path.display().to_string();
    let failed = |problem: String| ConfigError::File { path: file.clone(), problem };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        failed(format!("line {line}: {}", e.message().replace('\n', " ")))
    })?;
    for (section, value) in table {
        let toml::Value::Table(keys) = value else {
            return Err(unknown(&file, &section));
        };
        for (name, value) in keys {
            from_toml(&file, &format!("{section}.{name}"), value, settings)?;
        }
    }
    Ok(())
}

fn from_toml(
    file: &str,
    name: &str,
    value: toml::Value,
    settings: &mut Vec<Setting>,
) -> Result<(), ConfigError> {
    match (keys::find(name), value) {
        (Some(key), value) => {
            let text = scalar(&value).ok_or_else(|| ConfigError::WrongValue {
                origin: file.to_owned(),
                key: key.name.to_owned(),
                value: format!("of type {}", value.type_str()),
                allowed: key.kind.allowed(),
            })?;
            settings.push(Setting::of(key, &text, Layer::File, file)?);
            Ok(())
        }
        (None, toml::Value::Table(properties)) if name == PROPERTIES => {
            read_properties(file, "", properties, settings)
        }
        (None, _) => Err(unknown(file, name)),
    }
}

/// `security.protocol = "SSL"` is nested tables to TOML: the names are put together again.
fn read_properties(
    file: &str,
    prefix: &str,
    table: toml::Table,
    settings: &mut Vec<Setting>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(deeper) => read_properties(file, &format!("{name}."), deeper, settings)?,
            value => {
                let text = scalar(&value).ok_or_else(|| ConfigError::WrongValue {
                    origin: file.to_owned(),
                    key: format!("{PROPERTIES}.{name}"),
                    value: format!("of type {}", value.type_str()),
                    allowed: "a text, a number or a boolean".to_owned(),
                })?;
                settings.push(Setting::property(&name, &text, Layer::File, file)?);
            }
        }
    }
    Ok(())
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

// The environment -----------------------------------------------------------------------------------------------------

/// Variables that are not configuration: where to find it, a flag that was taken off the command line, and what only tests and the
/// private stack read.
fn is_not_configuration(name: &str) -> bool {
    ["STOCKTIDE_CONFIG", "STOCKTIDE_DATABASE_URL_FLAG", "STOCKTIDE_PARTS_DIR"].contains(&name)
        || name.starts_with("STOCKTIDE_TEST_")
}

fn from_variable(name: &str, value: &OsString) -> Result<Option<Setting>, ConfigError> {
    let Some(bare) = name.strip_prefix("STOCKTIDE_") else {
        return Ok(None);
    };
    // An empty variable counts as not set: compose files and shells cannot unset one.
    if is_not_configuration(name) || value.is_empty() {
        return Ok(None);
    }
    let origin = "environment";
    let Some(text) = value.to_str() else {
        return Err(ConfigError::WrongValue {
            origin: origin.to_owned(),
            key: name.to_owned(),
            value: "not UTF-8".to_owned(),
            allowed: "UTF-8".to_owned(),
        });
    };
    if let Some(key) = keys::KEYS.iter().find(|k| k.variable() == name) {
        return Setting::of(key, text, Layer::Environment, name).map(Some);
    }
    match bare.strip_prefix("KAFKA_PROPERTIES_") {
        Some(property) => {
            let property = property.to_ascii_lowercase().replace('_', ".");
            Setting::property(&property, text, Layer::Environment, name).map(Some)
        }
        None => Err(ConfigError::UnknownKey {
            origin: origin.to_owned(),
            name: name.to_owned(),
            allowed: format!("STOCKTIDE_ and a key with underscores for dots: {}", keys::near(bare)),
        }),
    }
}

// librdkafka's properties ---------------------------------------------------------------------------------------------

fn check_property(name: &str, value: &str, origin: &str) -> Result<(), ConfigError> {
    if RESERVED_PROPERTIES.contains(&name) {
        return Err(ConfigError::Conflict(format!(
            "{origin}: {PROPERTIES}.{name} is not yours to set: Stocktide sets it itself, or has a key of its own for it"
        )));
    }
    // librdkafka knows its properties and their values itself; its answer is one line, but for what it quotes.
    let mut probe = rdkafka::ClientConfig::new();
    let shown = |text: &str| text.replace(char::is_control, " ");
    match probe.set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(rdkafka::error::KafkaError::ClientConfig(_, problem, _, _)) => {
            Err(ConfigError::Conflict(format!(
                "{origin}: {PROPERTIES}.{}: {}; allowed: the properties of librdkafka's CONFIGURATION.md",
                shown(name),
                shown(problem.trim().trim_end_matches('.'))
            )))
        }
        Err(other) => Err(ConfigError::Conflict(format!("{origin}: {PROPERTIES}.{}: {other}", shown(name)))),
    }
}
