//! Events that a person or a script wrote, made ready to be sent: one, a JSON array, or one a line (NDJSON).
//!
//! Everything is read before anything is sent, so that a mistake in the last line does not leave half of them in Kafka.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The topics that events can be sent to, and what their records' business id is called.
pub const TOPICS: [(&str, &str); 4] = [
    ("online_orders", "order_id"),
    ("store_sales", "sale_id"),
    ("supplier_restocks", "restock_id"),
    ("payments", "payment_id"),
];

/// An event, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The line of the input that it begins in, from 1.
    pub line: usize,
    /// Its business id; none where it has none.
    pub key: Option<String>,
    /// Its bytes: as they were written, but for an event_id that was missing.
    pub value: Vec<u8>,
    /// The event_id that was added.
    pub added_event_id: Option<Uuid>,
}

/// Something in the input that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// The name of a topic's business id.
///
/// # Errors
/// When it is none of [`TOPICS`]; the error names them.
pub fn business_id(topic: &str) -> Result<&'static str, String> {
    let known = TOPICS.iter().find(|(name, _)| *name == topic).map(|(_, id)| *id);
    known.ok_or_else(|| {
        format!("no topic {topic:?} to send to; allowed: {}", TOPICS.map(|(name, _)| name).join(", "))
    })
}

/// Reads the events of an input. Where an event has no `event_id`, `new_id` makes one.
///
/// # Errors
/// Everything that is no event, by line; and when there is none at all.
pub fn parse(
    input: &[u8],
    business_id: &str,
    new_id: impl FnMut() -> Uuid,
) -> Result<Vec<Outgoing>, Vec<Problem>> {
    let text = std::str::from_utf8(input).map_err(|error| {
        let line = line_of(input, error.valid_up_to());
        vec![Problem { line, what: "not UTF-8; events are JSON in UTF-8 (--raw sends any bytes)".to_owned() }]
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut new_id = new_id;
    let mut events = Vec::new();
    let mut problems = Vec::new();
    for value in values(text) {
        match value.and_then(|(line, json)| event(line, json, business_id, &mut new_id)) {
            Ok(event) => events.push(event),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() && events.is_empty() {
        problems.push(Problem { line: 1, what: "the input holds no event".to_owned() });
    }
    if problems.is_empty() { Ok(events) } else { Err(problems) }
}

type Value<'t> = Result<(usize, &'t str), Problem>;

/// The JSON values of the input, each with its line.
fn values(text: &str) -> Vec<Value<'_>> {
    if text.trim_start().starts_with('[') {
        return array(text);
    }
    let lines: Vec<Value<'_>> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| match serde_json::from_str::<&RawValue>(line) {
            Ok(_) => Ok((at + 1, line.trim())),
            Err(error) => Err(no_json(at + 1, &error)),
        })
        .collect();
    // An event that is spread over several lines: its first line alone is the beginning of JSON, and no end.
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let unfinished = serde_json::from_str::<&RawValue>(first).is_err_and(|error| error.is_eof());
    if unfinished && text.lines().filter(|line| !line.trim().is_empty()).count() > 1 {
        spread(text)
    } else {
        lines
    }
}

fn array(text: &str) -> Vec<Value<'_>> {
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(elements) => {
            elements.into_iter().map(|element| Ok((line_in(text, element.get()), element.get()))).collect()
        }
        Err(error) => vec![Err(no_json(error.line(), &error))],
    }
}

/// Values one after another, wherever the lines break.
fn spread(text: &str) -> Vec<Value<'_>> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut values = Vec::new();
    for value in &mut stream {
        match value {
            Ok(value) => values.push(Ok((line_in(text, value.get()), value.get()))),
            Err(error) => {
                values.push(Err(no_json(error.line(), &error)));
                break;
            }
        }
    }
    values
}

fn event(
    line: usize,
    json: &str,
    business_id: &str,
    new_id: &mut impl FnMut() -> Uuid,
) -> Result<Outgoing, Problem> {
    let Some(inner) = json.strip_prefix('{') else {
        let shown: String = json.chars().take(40).collect();
        return Err(Problem { line, what: format!("{shown} is no event; an event is a JSON object") });
    };
    let fields: Fields<'_> = serde_json::from_str(json).map_err(|error| no_json(line, &error))?;
    let key = fields.0.iter().rev().find(|(name, _)| name == business_id).and_then(|(_, raw)| id(raw.get()));
    if fields.0.iter().any(|(name, _)| name == "event_id") {
        return Ok(Outgoing { line, key, value: json.as_bytes().to_vec(), added_event_id: None });
    }
    let added = new_id();
    let comma = if fields.0.is_empty() { "" } else { "," };
    let value = format!("{{\"event_id\":\"{added}\"{comma}{inner}").into_bytes();
    Ok(Outgoing { line, key, value, added_event_id: Some(added) })
}

/// A text as it is, an integer as text; anything else is no id.
fn id(json: &str) -> Option<String> {
    if json.starts_with('"') {
        return serde_json::from_str::<String>(json).ok().filter(|id| !id.is_empty());
    }
    let digits = json.strip_prefix('-').unwrap_or(json);
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| json.to_owned())
}

/// An object's fields, those that stand twice included.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Visitor).map(Fields)
    }
}

fn no_json(line: usize, error: &serde_json::Error) -> Problem {
    // serde's own line counts from the line at hand; ours is the input's.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    Problem { line, what: format!("not JSON: {what} at column {}", error.column()) }
}

fn line_of(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|&&b| b == b'\n').count() + 1
}

/// The line that a part of the text begins in.
fn line_in(text: &str, part: &str) -> usize {
    line_of(text.as_bytes(), (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ADDED: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn parsed(input: &str) -> Result<Vec<Outgoing>, Vec<Problem>> {
        parse(input.as_bytes(), "order_id", || ADDED.parse().unwrap())
    }

    fn shown(input: &str) -> Vec<(usize, Option<String>, String)> {
        let events = parsed(input).unwrap().into_iter();
        events.map(|e| (e.line, e.key, String::from_utf8(e.value).unwrap())).collect()
    }

    fn told(input: &str) -> Vec<String> {
        parsed(input).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_event_an_array_and_lines_are_understood() {
        let (a, b) = (r#"{"event_id":"x","order_id":"A"}"#, r#"{"event_id":"y","order_id":7}"#);
        let both = |lines: [usize; 2]| {
            vec![
                (lines[0], Some("A".to_owned()), a.to_owned()),
                (lines[1], Some("7".to_owned()), b.to_owned()),
            ]
        };
        assert_eq!(shown(a), both([1, 1])[..1]);
        assert_eq!(shown(&format!("\u{feff}[{a}, {b}]")), both([1, 1]));
        assert_eq!(shown(&format!("[\n{a},\n\n{b}]\n")), both([2, 4]));
        assert_eq!(shown(&format!("{a}\r\n\n  {b}  \n")), both([1, 3]));
        assert_eq!(shown(&format!("{a}{b}").replace('{', "{\n"))[1].0, 2);
    }

    #[test]
    fn an_event_spread_over_lines_is_sent_as_it_stands() {
        let pretty = "\n{\n  \"event_id\": \"x\",\n  \"order_id\": \"A\"\n}\n";
        assert_eq!(shown(pretty), [(2, Some("A".into()), pretty.trim().to_owned())]);
    }

    #[test]
    fn a_missing_event_id_is_added_and_nothing_else_is_touched() {
        let events = parsed("{ \"order_id\": \"A\", \"x\": 1.50 }\n{}\n{\"event_id\":null}").unwrap();
        let values: Vec<&str> = events.iter().map(|e| std::str::from_utf8(&e.value).unwrap()).collect();
        assert_eq!(values[0], format!("{{\"event_id\":\"{ADDED}\", \"order_id\": \"A\", \"x\": 1.50 }}"));
        assert_eq!(values[1], format!("{{\"event_id\":\"{ADDED}\"}}"));
        assert_eq!((values[2], events[2].added_event_id), ("{\"event_id\":null}", None));
    }

    #[test]
    fn every_line_that_is_no_event_is_told() {
        let input = "{\"order_id\":\"A\"}\n{\"order_id\":}\n\n[1]\n{\"order_id\":\"B\"";
        assert_eq!(
            told(input),
            [
                "line 2: not JSON: expected value at column 13",
                "line 4: [1] is no event; an event is a JSON object",
                "line 5: not JSON: EOF while parsing an object at column 15",
            ]
        );
        assert_eq!(told("[{},\n{},\n5]"), ["line 3: 5 is no event; an event is a JSON object"]);
        assert_eq!(told("[{},\n{} {}]"), ["line 2: not JSON: expected `,` or `]` at column 4"]);
        assert_eq!(
            told("{\n\"order_id\": \"A\",\n}"),
            ["line 3: not JSON: key must be a string at column 1"]
        );
        assert_eq!(told("  \n"), ["line 1: the input holds no event"]);
        assert_eq!(told("[]"), ["line 1: the input holds no event"]);
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_told_by_line() {
        let problems = parse(b"{}\n{\"a\":\"\xff\"}", "order_id", Uuid::new_v4).unwrap_err();
        assert_eq!(problems[0].line, 2);
    }

    #[test]
    fn what_is_no_id_makes_no_key() {
        for input in
            ["{}", "{\"order_id\":null}", "{\"order_id\":1.5}", "{\"order_id\":{}}", "{\"order_id\":\"\"}"]
        {
            assert_eq!(parsed(input).unwrap()[0].key, None, "{input}");
        }
    }
}
