//! Why the API could not read.

/// Why something could not be read, by what the one who asked can do.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database is away, or has no connection left: try again later.
    #[error("the database cannot be reached")]
    Away(#[source] sqlx::Error),
    /// The database is there, and the schema is not, or is older than this program.
    #[error("the schema is not there yet: run `stocktide migrate`")]
    NoSchema(#[source] sqlx::Error),
    /// The statement took too long.
    #[error("the database took too long")]
    TimedOut(#[source] sqlx::Error),
    /// A value is beyond what the database can hold.
    #[error("a value is out of range")]
    Unfit(#[source] sqlx::Error),
    /// A mistake in the program.
    #[error("the database refused")]
    Refused(#[source] sqlx::Error),
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> ReadError {
        use sqlx::Error;
        let code = match &error {
            Error::Database(refused) => refused.code().map(std::borrow::Cow::into_owned),
            Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::PoolTimedOut
            | Error::PoolClosed
            | Error::WorkerCrashed => return ReadError::Away(error),
            _ => None,
        };
        match code.as_deref() {
            // A table, a column, a function, or the database itself that is not there.
            Some("42P01" | "42703" | "42883" | "3F000" | "3D000") => ReadError::NoSchema(error),
            Some(code) if code.starts_with("22") => ReadError::Unfit(error),
            Some("57014") => ReadError::TimedOut(error),
            // Connections, credentials, what is used up, and an operator's doing (a restart).
            Some(code) if ["08", "28", "53", "57"].iter().any(|class| code.starts_with(class)) => {
                ReadError::Away(error)
            }
            _ => ReadError::Refused(error),
        }
    }
}
