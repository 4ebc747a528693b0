//! The programs of the stack: fetched by Maven once, kept in a cache, found there afterwards.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use liblzma::read::XzDecoder;
use tokio::process::Command as AsyncCommand;

use crate::error::last_lines;
use crate::process::until;
use crate::{DevstackError, Result};

const POM: &str = include_str!("../pom.xml");
/// Another process may be fetching; a slow network needs minutes.
const FETCH_PATIENCE: Duration = Duration::from_mins(15);

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The directory of all parts.
    pub dir: PathBuf,
    /// The directory of the Kafka server's jars.
    pub kafka: PathBuf,
    /// The installation directory of PostgreSQL (`bin`, `lib`, `share`).
    pub postgres: PathBuf,
}

/// The version of Apache Kafka that `pom.xml` names.
pub fn kafka_version() -> &'static str {
    property("kafka.version")
}

/// The version of PostgreSQL that `pom.xml` names, as `18.6`.
pub fn postgres_version() -> &'static str {
    let artifact = property("postgresql.version");
    artifact.rsplit_once('.').map_or(artifact, |(version, _)| version)
}

fn property(name: &str) -> &'static str {
    POM.split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once("</"))
        .map_or("unknown", |(value, _)| value)
}

/// Where the parts are kept unless told otherwise: `$STOCKTIDE_PARTS_DIR`, else a directory of the user's cache named after the
/// versions. Root's is under `/var/cache`, because PostgreSQL then runs as a user who cannot enter `/root`.
pub fn parts_dir() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("STOCKTIDE_PARTS_DIR") {
        return dir;
    }
    let cache = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/cache")
    } else {
        set("XDG_CACHE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(env::temp_dir)
    };
    cache.join("stocktide").join(format!("parts-{}-{}", kafka_version(), postgres_version()))
}

impl Parts {
    /// The parts in `dir` (default: [`parts_dir`]), whether they are there yet or not.
    pub fn at(dir: Option<PathBuf>) -> Self {
        let dir = dir.unwrap_or_else(parts_dir);
        Self {
            kafka: dir.join(format!("kafka-{}", kafka_version())),
            postgres: dir.join(format!("postgresql-{}", postgres_version())),
            dir,
        }
    }

    /// Whether everything is there, so that nothing must be fetched.
    pub fn are_present(&self) -> bool {
        self.kafka.is_dir() && self.postgres.is_dir()
    }

    /// Fetches what is missing. Processes that do so at once wait for each other, and none sees half of it.
    pub async fn prepare(&self) -> Result<()> {
        if self.are_present() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).map_err(DevstackError::file("create", &self.dir))?;
        let _lock = lock(&self.dir.join("lock"), FETCH_PATIENCE).await?;
        if self.are_present() {
            return Ok(());
        }
        tracing::info!(dir = %self.dir.display(), "fetching PostgreSQL and Apache Kafka, once");
        let fresh = tempfile::Builder::new()
            .prefix("fetch-")
            .tempdir_in(&self.dir)
            .map_err(DevstackError::file("create a directory in", &self.dir))?;
        self.fetch(fresh.path()).await
    }

    async fn fetch(&self, fresh: &Path) -> Result<()> {
        let pom = fresh.join("pom.xml");
        fs::write(&pom, POM).map_err(DevstackError::file("write", &pom))?;
        let mut parts = OsString::from("-Dparts=");
        parts.push(fresh);
        let goals = ["dependency:copy-dependencies@kafka", "dependency:unpack-dependencies@postgresql"];
        let output = AsyncCommand::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .args(goals)
            .arg(parts)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(DevstackError::tool("mvn", "once, to fetch PostgreSQL and Apache Kafka", "maven"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(DevstackError::Fetch { output: last_lines(&String::from_utf8_lossy(&said), 15) });
        }
        let postgres = fresh.join("postgresql");
        let archive = archive_in(&postgres)?;
        let unpacked = fresh.join("unpacked");
        fs::create_dir_all(&unpacked).map_err(DevstackError::file("create", &unpacked))?;
        let into = unpacked.clone();
        // Decompression is work, and a runtime's own threads are not for it.
        match tokio::task::spawn_blocking(move || unpack(&archive, &into)).await {
            Ok(result) => result?,
            Err(stopped) => return Err(DevstackError::Fetch { output: stopped.to_string() }),
        }
        let jars = fresh.join("kafka");
        for (from, to) in [(&jars, &self.kafka), (&unpacked, &self.postgres)] {
            readable(from)?;
            if !to.exists() {
                fs::rename(from, to).map_err(DevstackError::file("move into place", to))?;
            }
        }
        Ok(())
    }
}

/// Takes the lock file, waiting for another process that has it. It is let go with the value, or with the process.
pub(crate) async fn lock(path: &Path, patience: Duration) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(DevstackError::file("open", path))?;
    let mut failed = None;
    let taken = until(patience, || match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => {
            failed = Some(error);
            true
        }
    })
    .await;
    match failed {
        Some(source) => Err(DevstackError::File { action: "lock", path: path.to_path_buf(), source }),
        None if taken => Ok(file),
        None => Err(DevstackError::Busy { state_dir: path.parent().unwrap_or(path).to_path_buf() }),
    }
}

/// The one archive that the artifact holds; its name differs by machine.
fn archive_in(dir: &Path) -> Result<PathBuf> {
    fs::read_dir(dir)
        .map_err(DevstackError::file("read", dir))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
        .ok_or_else(|| DevstackError::Fetch { output: format!("no .txz archive in {}", dir.display()) })
}

fn unpack(archive: &Path, into: &Path) -> Result<()> {
    let packed = File::open(archive).map_err(DevstackError::file("open", archive))?;
    let mut tar = Command::new("tar")
        .args(["-x", "-C"])
        .arg(into)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DevstackError::tool("tar", "to unpack PostgreSQL", "tar"))?;
    let copied = match tar.stdin.take() {
        Some(mut stdin) => std::io::copy(&mut XzDecoder::new(packed), &mut stdin),
        None => Ok(0),
    };
    let output = tar.wait_with_output().map_err(DevstackError::file("unpack", archive))?;
    if !output.status.success() {
        return Err(DevstackError::Failed {
            program: "tar -x".to_owned(),
            status: output.status.to_string(),
            output: last_lines(&String::from_utf8_lossy(&output.stderr), 5),
        });
    }
    copied.map(|_| ()).map_err(DevstackError::file("unpack", archive))
}

/// Lets every user read (and run what is a program): PostgreSQL's may be another than ours, and the umask may be strict.
fn readable(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(DevstackError::file("read", path))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let runs = metadata.is_dir() || mode & 0o100 != 0;
    let wanted = mode | if runs { 0o555 } else { 0o444 };
    fs::set_permissions(path, Permissions::from_mode(wanted))
        .map_err(DevstackError::file("set the mode of", path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(DevstackError::file("read", path))?.flatten() {
            readable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_pom_and_postgresql_is_none_that_loses_updates() {
        assert!(kafka_version().starts_with("4."), "{}", kafka_version());
        assert!(postgres_version().starts_with("18."), "{}", postgres_version());
        assert!(!["18.0", "18.1"].contains(&postgres_version()));
    }
}
