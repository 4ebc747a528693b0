//! What can go wrong with a local stack. Every message says what to do next, in one paragraph.

use std::io;
use std::path::{Path, PathBuf};

/// Why a stack could not be started, changed or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevstackError {
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: "create", "read", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A program that must be installed is not on the PATH.
    #[error(
        "{tool} is needed {purpose} and was not found; install it with `scripts/setup` or, on Debian and Ubuntu, `apt-get install {package}`"
    )]
    MissingTool {
        /// The program.
        tool: &'static str,
        /// What it is needed for.
        purpose: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The Java found is too old for Kafka, or tells no version.
    #[error("Apache Kafka needs Java 17 or newer, but {} is {found}; install openjdk-17-jre-headless or newer, or let JAVA_HOME point to one", java.display())]
    OldJava {
        /// The `java` that was asked.
        java: PathBuf,
        /// The version that it names, or what it said instead.
        found: String,
    },
    /// A program that should have ended well did not.
    #[error("`{program}` failed ({status}):\n{output}")]
    Failed {
        /// The program with its first arguments.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// Maven could not bring the parts.
    #[error(
        "Maven could not fetch PostgreSQL and Apache Kafka; check the network and the proxy in ~/.m2/settings.xml, then try again. Its last lines:\n{output}"
    )]
    Fetch {
        /// The end of Maven's output.
        output: String,
    },
    /// This PostgreSQL loses updates silently under two writers.
    #[error("{} is PostgreSQL {version}, and 18.0 and 18.1 silently lose updates under two writers: use 18.2 or newer (delete the directory, and a good one is fetched)", path.display())]
    LossyPostgres {
        /// The `postgres` that was asked.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// A part ended, or was not ready in time.
    #[error("{part} {what}; its log is {}, and ends with:\n{tail}", log.display())]
    NotReady {
        /// "PostgreSQL" or "Kafka node 2".
        part: String,
        /// "ended at once (exit status: 1)", "was not ready after 60 s".
        what: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The state directory has a stack that runs.
    #[error("a stack is already running in {}; `stocktide dev status` shows it, `stocktide dev down` ends it", state_dir.display())]
    AlreadyRunning {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// Another process is starting or ending a stack in this state directory.
    #[error("another process is busy with the stack in {}; wait for it, or use another --state-dir", state_dir.display())]
    Busy {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The state directory was made with another number of Kafka nodes.
    #[error("{} holds a cluster of {found} Kafka node(s), and {wanted} were asked for; use another --state-dir, or delete this one", state_dir.display())]
    OtherNodes {
        /// The state directory.
        state_dir: PathBuf,
        /// The nodes that it was made for.
        found: u16,
        /// The nodes that were asked for.
        wanted: u16,
    },
    /// Only clusters of one or three nodes are made.
    #[error("a stack has 1 or 3 Kafka nodes, not {wanted}")]
    NodeCount {
        /// The nodes that were asked for.
        wanted: u16,
    },
    /// PostgreSQL's data belong to a user that this process cannot become.
    #[error("{} belongs to user id {owner}; run as that user, or use another --state-dir", path.display())]
    ForeignData {
        /// The data directory.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// Running as root, and no unprivileged user was found for PostgreSQL.
    #[error(
        "PostgreSQL refuses to run as root, and neither the user postgres nor nobody exists; run this as an ordinary user"
    )]
    NoAccount,
    /// A directory that PostgreSQL's user cannot enter.
    #[error("PostgreSQL runs as user {user} (it refuses root), who cannot enter {}; choose a place that everybody can reach ({remedy})", path.display())]
    Unreachable {
        /// The directory.
        path: PathBuf,
        /// The user that PostgreSQL runs as.
        user: String,
        /// Which setting to change.
        remedy: &'static str,
    },
    /// The stack has no such part.
    #[error("this stack has no {part}")]
    NoSuchPart {
        /// "PostgreSQL", "Kafka node 4".
        part: String,
    },
    /// No free port was found on the loopback address.
    #[error("no free TCP port on 127.0.0.1 between {from} and {to}; end some listeners")]
    NoPort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// A statement on the private database failed.
    #[error("cannot {action}: {source}")]
    Sql {
        /// What was tried.
        action: String,
        /// What PostgreSQL answered.
        source: tokio_postgres::Error,
    },
}

impl DevstackError {
    /// For `map_err`: a failed file operation.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err`: a program that could not be started, told as missing when that is the cause.
    pub(crate) fn tool(
        tool: &'static str,
        purpose: &'static str,
        package: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::MissingTool { tool, purpose, package },
            _ => Self::File { action: "run", path: PathBuf::from(tool), source },
        }
    }
}

/// The last `lines` lines of `text`.
pub(crate) fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
