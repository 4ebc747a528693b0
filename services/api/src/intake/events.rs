//! One event of a request, made ready to be sent.

use stocktide_domain::decode::{Rules, decode};
use stocktide_domain::{Reject, Source};
use stocktide_producers::outgoing::{self, Outgoing};
use stocktide_runtime::clock;
use uuid::{NoContext, Timestamp, Uuid, uuid};

/// The event ids that come from idempotency keys (UUID version 5) are in it.
const NAMESPACE: Uuid = uuid!("5b0c0a4e-6d2b-5f6a-9a3c-0d6f7c1e2b48");

/// An event with its event_id, or why it is none.
pub type Prepared = Result<(Uuid, Outgoing), Reject>;

/// Validates an event, and gives it an event_id if it has none.
pub fn prepare(source: Source, part: &[u8], rules: &Rules, key: Option<&str>, index: usize) -> Prepared {
    let business_id = outgoing::business_id(source.topic()).unwrap_or_default();
    let new_id = || key.map_or_else(fresh, |key| of_key(source, key, index, part));
    let is_object = part.starts_with(b"{");
    // What `parse` does not take for one event is left to the domain, which says what is wrong with it.
    let parsed = is_object.then(|| outgoing::parse(part, business_id, new_id).ok()).flatten();
    let event = parsed.filter(|events| events.len() == 1).and_then(|mut events| events.pop());
    let event =
        event.unwrap_or_else(|| Outgoing { line: 1, key: None, value: part.to_vec(), added_event_id: None });
    let decoded = decode(source, Some(&event.value), rules)?;
    Ok((decoded.event_id, event))
}

/// The same key, topic, place and bytes give the same id: under a key that is used twice another event is another one, and not lost
/// as a duplicate.
fn of_key(source: Source, key: &str, index: usize, part: &[u8]) -> Uuid {
    let mut name = format!("{source}\n{index}\n{key}\n").into_bytes();
    name.extend_from_slice(part);
    Uuid::new_v5(&NAMESPACE, &name)
}

fn fresh() -> Uuid {
    let now = clock::now();
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use stocktide_domain::Reason;
    use stocktide_domain::decode::Limits;

    use super::*;

    fn prepared(part: &str, key: Option<&str>, index: usize) -> Prepared {
        let rules = Rules { currency: "GBP".to_owned(), now: clock::now(), limits: Limits::default() };
        prepare(Source::OnlineOrders, part.as_bytes(), &rules, key, index)
    }

    const ORDER: &str = r#"{"order_id": "A-1", "order_timestamp": "2026-03-01T12:00:00Z",
        "items": [{"product_id": "apple", "quantity": 1, "price_per_unit": "1.00"}]}"#;

    #[test]
    fn an_event_id_follows_from_the_key_the_place_and_the_event() {
        let (id, event) = prepared(ORDER, Some("k"), 0).unwrap();
        assert_eq!((id, event.key.as_deref()), (prepared(ORDER, Some("k"), 0).unwrap().0, Some("A-1")));
        let changed = ORDER.replace("A-1", "A-2");
        for other in [
            prepared(ORDER, Some("k"), 1),
            prepared(ORDER, Some("l"), 0),
            prepared(ORDER, None, 0),
            prepared(&changed, Some("k"), 0),
        ] {
            assert_ne!(other.unwrap().0, id);
        }
        let own = ORDER.replacen('{', "{\"event_id\": \"0197a2b4-0000-7000-8000-000000000001\", ", 1);
        assert_eq!(
            prepared(&own, Some("k"), 0).unwrap().0.to_string(),
            "0197a2b4-0000-7000-8000-000000000001"
        );
    }

    #[test]
    fn what_is_no_event_has_a_reason_and_shows_no_card_number() {
        for (part, reason) in [
            ("not json", Reason::MalformedJson),
            ("[{}]", Reason::SchemaViolation),
            ("{}{}", Reason::MalformedJson),
            ("{\"order_id\": ", Reason::MalformedJson),
            ("{}", Reason::SchemaViolation),
        ] {
            assert_eq!(prepared(part, None, 0).unwrap_err().reason, reason, "{part}");
        }
        let card = ORDER.replacen('{', "{\"note\": \"4111 1111 1111 1111\", ", 1);
        let reject = prepared(&card, None, 0).unwrap_err();
        assert_eq!(reject.reason, Reason::CardNumber);
        assert!(!format!("{reject:?}").contains("4111"));
    }
}
