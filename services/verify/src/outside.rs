//! What is read of bytes that others wrote: for the fuzzer (`fuzz/`), which is no part of the product.

use std::borrow::Cow;

use uuid::Uuid;

use crate::defects::{self, Defect, Rules};
use crate::event;
use crate::facts::Source;
use crate::record::Record;

/// What the headers of a dead letter say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The topic that it was read from.
    pub topic: Option<&'a str>,
    /// The partition.
    pub partition: Option<i64>,
    /// The offset.
    pub offset: Option<i64>,
    /// Why it was rejected.
    pub reason: Option<&'a str>,
    /// How long its value was before it was cut.
    pub truncated: Option<i64>,
}

/// Reads the headers of a dead letter.
pub fn dead_letter<'a>(headers: &[(Cow<'a, str>, Option<&'a [u8]>)]) -> DeadLetter<'a> {
    let record = Record { partition: 0, offset: 0, key: None, value: None, headers: headers.to_vec() };
    // Its digest covers all of them.
    let _ = record.fingerprint(headers.len());
    DeadLetter {
        topic: record.header("__connect.errors.topic"),
        partition: record.number("__connect.errors.partition"),
        offset: record.number("__connect.errors.offset"),
        reason: record.header("stocktide.reason"),
        truncated: record.number("stocktide.truncated"),
    }
}

/// Reads an event that the product has taken as valid; its event_id.
///
/// # Errors
/// What verify cannot read of it.
pub fn event(topic: &str, value: &[u8]) -> Result<Uuid, String> {
    let source = match topic {
        "online_orders" => Source::OnlineOrders,
        "store_sales" => Source::StoreSales,
        "supplier_restocks" => Source::SupplierRestocks,
        _ => return event::read_payment(value).map(|payment| payment.id),
    };
    event::read(source, value).map(|event| event.id)
}

/// Judges what the product made of a record in an installation in pounds: `reason` is why it was rejected, none where it was not.
///
/// # Errors
/// Why it did not deserve that.
pub fn judge(topic: &str, value: &[u8], settled_at: i64, reason: Option<&str>) -> Result<(), String> {
    let rules = Rules { currency: "GBP", settled_at: Some(settled_at) };
    match reason {
        None => match defects::certain(topic, Some(value), rules).first() {
            Some(defect) => Err(format!("{} was taken as valid", defect.code())),
            None => Ok(()),
        },
        Some(code) => Defect::of_code(code)
            .filter(|defect| defects::possible(*defect, topic, Some(value), rules))
            .map(|_| ())
            .ok_or_else(|| format!("nothing in it is {code}")),
    }
}
