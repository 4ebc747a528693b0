//! Finds a Java that can run Apache Kafka 4.

use std::env;
use std::path::PathBuf;

use tokio::process::Command;

use crate::{DevstackError, Result};

const OLDEST: u32 = 17;

/// A Java that is new enough.
#[derive(Debug, Clone)]
pub(crate) struct Java {
    pub(crate) path: PathBuf,
    /// What `java -version` says: names the build exactly.
    pub(crate) build: String,
}

/// `$JAVA_HOME/bin/java`, or the `java` on the PATH; its version is checked.
pub(crate) async fn find() -> Result<Java> {
    let path = match env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join("bin/java"),
        None => PathBuf::from("java"),
    };
    let output =
        Command::new(&path).arg("-version").kill_on_drop(true).output().await.map_err(
            DevstackError::tool("java", "by Apache Kafka (17 or newer)", "openjdk-17-jre-headless"),
        )?;
    let build = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match major_version(&build) {
        Some(version) if version >= OLDEST => Ok(Java { path, build }),
        Some(version) => Err(DevstackError::OldJava { java: path, found: format!("Java {version}") }),
        None => Err(DevstackError::OldJava { java: path, found: format!("of no known version ({build:?})") }),
    }
}

/// 17 from `openjdk version "17.0.15" 2025-04-15`, 8 from `java version "1.8.0_391"`.
fn major_version(text: &str) -> Option<u32> {
    let quoted = text.split_once("version \"")?.1;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_in_the_old_and_the_new_form() {
        assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(
            major_version("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"21\" 2023-09-19"),
            Some(21)
        );
        assert_eq!(major_version("java version \"1.8.0_391\""), Some(8));
        assert_eq!(major_version("openjdk version \"25-ea\""), Some(25));
        assert_eq!(major_version("The operation couldn't be completed."), None);
    }
}
