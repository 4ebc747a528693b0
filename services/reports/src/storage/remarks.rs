//! A language model's remarks, kept beside a day's report and in no manifest: the report does not depend on them.

use chrono::NaiveDate;
use object_store::{Attribute, Attributes, ObjectStoreExt as _, PutOptions};

use super::{Storage, StorageError};
use crate::narrative::{FILE_NAME, Narrative};

impl Storage {
    /// Keeps the remarks on a day's report; where there are none, takes away those on an earlier revision.
    ///
    /// # Errors
    /// [`StorageError`]. The file is the earlier or the new one, whole, or not there.
    pub async fn put_narrative(&self, date: NaiveDate, narrative: &Narrative) -> Result<(), StorageError> {
        let path = self.path(date, Some(FILE_NAME));
        let Some(file) = narrative.file() else {
            if self.get(date, FILE_NAME).await?.is_some() {
                self.in_time(async { self.store.delete(&path).await }).await?;
            }
            return Ok(());
        };
        let mut options = PutOptions::default();
        // A directory keeps no attributes.
        if self.directory.is_none() {
            let plain = (Attribute::ContentType, "text/plain; charset=utf-8");
            options.attributes = Attributes::from_iter([plain]);
        }
        self.in_time(async { self.store.put_opts(&path, file.into(), options).await.map(drop) }).await
    }

    /// The remarks on a day's report, with the label that says whose they are; none: there are none.
    ///
    /// # Errors
    /// [`StorageError`], when the store does not answer or refuses.
    pub async fn narrative(&self, date: NaiveDate) -> Result<Option<String>, StorageError> {
        let file = self.get(date, FILE_NAME).await?;
        Ok(file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}
