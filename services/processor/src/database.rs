//! The processor's connection, made anew where it is gone.

use stocktide_runtime::admin::Health;
use stocktide_runtime::clock;
use stocktide_store::{StoreError, Writer, WriterOptions};

/// The connection, or how to come by one.
pub struct Database {
    options: WriterOptions,
    health: Health,
    writer: Option<Writer>,
}

impl Database {
    /// Not connected yet.
    pub fn new(options: WriterOptions, health: Health) -> Database {
        Database { options, health, writer: None }
    }

    /// The connection.
    ///
    /// # Errors
    /// When there is none to be had, now or ever: see the variant.
    pub async fn writer(&mut self) -> Result<&mut Writer, StoreError> {
        if self.writer.as_ref().is_none_or(Writer::is_closed) {
            self.writer = None;
            let connected = self.connect().await;
            self.health.set("database", connected.as_ref().map(|_| ()).map_err(ToString::to_string));
            self.writer = Some(connected?);
        }
        self.writer.as_mut().ok_or_else(|| StoreError::Unavailable("no connection".to_owned()))
    }

    /// Gives the connection up: it is in no state to be used again.
    pub fn drop_connection(&mut self, reason: String) {
        self.health.set("database", Err(reason));
        self.writer = None;
    }

    /// The connection, where there is one.
    pub fn connected(&self) -> Option<&Writer> {
        self.writer.as_ref().filter(|writer| !writer.is_closed())
    }

    async fn connect(&self) -> Result<Writer, StoreError> {
        let writer = Writer::connect(self.options.clone()).await?;
        writer.prepare_log(clock::now()).await?;
        Ok(writer)
    }
}
