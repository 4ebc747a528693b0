//! Why a record is rejected. The codes are part of the contract: they stand in `dlq` headers, metrics and reports.

use std::fmt;

use uuid::Uuid;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal,)*) => {
        /// A stable reason code. Add one here and it appears in the metrics, the documentation and the tests.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])* $variant,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The code as it stands on the wire.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

reasons! {
    /// The value is not JSON in UTF-8, is empty, or is missing (a tombstone).
    MalformedJson = "malformed_json",
    /// It is JSON, but not of the shape that its topic asks for.
    SchemaViolation = "schema_violation",
    /// A line names a product that is not in the catalogue.
    UnknownProduct = "unknown_product",
    /// The location is not in the catalogue.
    UnknownLocation = "unknown_location",
    /// The supplier is not in the catalogue.
    UnknownSupplier = "unknown_supplier",
    /// A quantity is zero, has the wrong sign, or is beyond the limit.
    InvalidQuantity = "invalid_quantity",
    /// An amount is negative, too precise, too large, or not a decimal number.
    InvalidPrice = "invalid_price",
    /// The event is in another currency than the installation.
    CurrencyMismatch = "currency_mismatch",
    /// The event happened before 2000-01-01 or more than a day ahead of now.
    TimestampOutOfRange = "timestamp_out_of_range",
    /// A known order_id is placed again under a new event_id.
    OrderConflict = "order_conflict",
    /// The order that the event speaks of is not known.
    UnknownOrder = "unknown_order",
    /// More comes back than was sold and not yet returned.
    OverReturn = "over_return",
    /// The order has been cancelled before.
    AlreadyCancelled = "already_cancelled",
    /// A payment whose order never came.
    OrphanPayment = "orphan_payment",
    /// A known payment_id comes for another order.
    PaymentConflict = "payment_conflict",
    /// The event carries a full card number.
    CardNumber = "card_number",
    /// The record, its nesting, a text or the number of its lines is beyond the limit.
    TooLarge = "too_large",
    /// Stock cannot cover the order (only under the policy that checks it).
    InsufficientStock = "insufficient_stock",
    /// The database refused the record's data; the detail holds its answer.
    RefusedByDatabase = "refused_by_database",
}

impl Reason {
    /// The reason of a code.
    pub fn from_code(code: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|r| r.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A record's rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The stable code.
    pub reason: Reason,
    /// What exactly was wrong, for people; at most [`DETAIL_LIMIT`] bytes, without control characters.
    pub detail: String,
    /// The record's event_id, where one could be read.
    pub event_id: Option<Uuid>,
}

/// The longest detail, in bytes: it travels in a Kafka header.
pub const DETAIL_LIMIT: usize = 512;

impl Reject {
    /// A rejection; the detail is freed of card numbers and control characters and cut to [`DETAIL_LIMIT`].
    pub fn new(reason: Reason, detail: impl AsRef<str>, event_id: Option<Uuid>) -> Reject {
        let mut clean = String::new();
        for c in crate::card::masked(detail.as_ref()).chars() {
            let c = if c.is_control() { '\u{fffd}' } else { c };
            if clean.len() + c.len_utf8() > DETAIL_LIMIT {
                break;
            }
            clean.push(c);
        }
        // What is left of a longer number may be one that a card has.
        Reject { reason, detail: crate::card::masked(&clean).into_owned(), event_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_back_to_its_reason() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
    }

    #[test]
    fn a_detail_that_is_cut_within_digits_shows_no_card_number_of_them() {
        let dashed = "-".repeat(DETAIL_LIMIT - 16) + "41111111111111112222";
        let reject = Reject::new(Reason::SchemaViolation, dashed, None);
        assert!(reject.detail.ends_with("-************1111"), "{}", reject.detail);
    }

    #[test]
    fn a_detail_is_short_and_carries_no_control_characters() {
        let reject = Reject::new(Reason::MalformedJson, format!("\u{1b}[31m\n{}", "é".repeat(1000)), None);
        assert!(reject.detail.len() <= DETAIL_LIMIT);
        assert!(!reject.detail.chars().any(char::is_control));
    }
}
