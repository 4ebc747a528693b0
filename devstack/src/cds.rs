//! An archive of Kafka's loaded classes (the JVM's "application class data sharing"): it more than halves a node's start.
//!
//! Made once per set of jars and build of Java, by a node that is started and ended for it. The JVM checks the archive
//! itself and goes on without it when it does not fit, so nothing depends on it but time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::guard::Guard;
use crate::java::Java;
use crate::kafka::{Cluster, KafkaNode, NodePorts, class_path, voters};
use crate::{DevstackError, Parts, Result, parts, ports};

/// The JVM's flags that make it use the archive; none where it could not be made.
pub(crate) async fn flags(parts: &Parts, java: &Java) -> Vec<OsString> {
    let mut hasher = DefaultHasher::new();
    (&java.path, &java.build).hash(&mut hasher);
    let archive = parts.kafka.join(format!("classes-{:016x}.jsa", hasher.finish()));
    if !archive.exists() {
        let made = make(parts, java, &archive).await;
        if let Err(error) = made {
            tracing::info!(%error, "Kafka starts without an archive of its classes");
            // An empty file stands for "not with this Java", so that it is not tried at every start.
            let _ = File::create_new(&archive);
        }
    }
    match fs::metadata(&archive) {
        Ok(file) if file.len() > 0 => vec![flag("-XX:SharedArchiveFile=", &archive), "-Xshare:auto".into()],
        _ => Vec::new(),
    }
}

async fn make(parts: &Parts, java: &Java, archive: &Path) -> Result<()> {
    let _lock = parts::lock(&parts.dir.join("lock"), Duration::from_mins(5)).await?;
    if archive.exists() {
        return Ok(());
    }
    tracing::info!("preparing Kafka's class archive, once");
    let work = tempfile::Builder::new()
        .prefix("classes-")
        .tempdir_in(&parts.dir)
        .map_err(DevstackError::file("create a directory in", &parts.dir))?;
    let fresh = work.path().join("archive.jsa");
    // The watchdog removes the directory when it is let go, so it is kept until the archive is out of it.
    let guard = Arc::new(Guard::start(Some(work.path()))?);
    train(parts, java, work.path(), &fresh, Arc::clone(&guard)).await?;
    fs::rename(&fresh, archive).map_err(DevstackError::file("move into place", archive))
}

/// Runs a node from start to orderly end; the JVM then writes down the classes it loaded.
async fn train(parts: &Parts, java: &Java, work: &Path, archive: &Path, guard: Arc<Guard>) -> Result<()> {
    let ports = [NodePorts {
        broker: ports::claim(None)?,
        secure: None,
        controller: ports::claim(None)?,
        fronts: Vec::new(),
    }];
    let cluster = Cluster {
        java: java.clone(),
        class_path: class_path(&parts.kafka)?,
        // The tool that formats writes an archive too, which the node's replaces.
        jvm_flags: vec![flag("-XX:ArchiveClassesAtExit=", archive)],
        id: "stocktide-classes".to_owned(),
        logs: work.to_path_buf(),
        voters: voters(&ports),
        nodes: 1,
        settings: Vec::new(),
        security: None,
        fronts: Vec::new(),
        guard,
    };
    let [ports] = ports;
    let mut node = KafkaNode::new(1, work.join("kafka-1"), ports, cluster);
    node.launch().await?;
    node.ready().await?;
    node.stop().await
}

fn flag(name: &str, value: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value);
    flag
}
