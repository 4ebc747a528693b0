//! Mends a record's value before it is sent again: by an expression of jq's language, or by a file of replacements.

use std::collections::HashMap;
use std::fmt;

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data};
use jaq_json::{Val, read};
use serde::Deserialize;
use serde_json::value::RawValue;
use stocktide_domain::decode::{Limits, deeper_than};
use stocktide_store::dlq::{At, Reject};
use uuid::Uuid;

/// What is done to the values.
pub enum Edit {
    /// Nothing: they are sent as the log has them.
    None,
    /// Each becomes what an expression makes of it.
    Jq(Program),
    /// Each becomes what a file says.
    Replacements(HashMap<At, String>),
}

/// Why a value cannot be mended.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The expression is not of jq's language.
    #[error("--jq {expression:?} does not parse: {why}")]
    Expression {
        /// As it was given.
        expression: String,
        /// What is wrong.
        why: String,
    },
    /// A line of the file.
    #[error(
        "line {line}: {why}; a line is {{\"record\": \"online_orders/0@41\", \"value\": {{…}}}}, or has a text as \"bytes\""
    )]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A record that is not fit for it, or that it would make something else of.
    #[error("{at}: {why}")]
    Record {
        /// The record.
        at: At,
        /// What is wrong.
        why: String,
    },
}

impl Edit {
    /// Of an expression.
    ///
    /// # Errors
    /// [`EditError::Expression`].
    pub fn jq(expression: &str) -> Result<Edit, EditError> {
        Ok(Edit::Jq(Program::compile(expression)?))
    }

    /// Of a file's text: a JSON object a line.
    ///
    /// # Errors
    /// [`EditError::Line`], the first one.
    pub fn replacements(text: &str) -> Result<Edit, EditError> {
        let mut replacements = HashMap::new();
        for (line, content) in text.lines().enumerate().filter(|(_, content)| !content.trim().is_empty()) {
            let wrong = |why: String| EditError::Line { line: line + 1, why };
            let Replacement { record, value, bytes } = serde_json::from_str(content).map_err(|e| {
                let told = e.to_string();
                // It may quote what is written there.
                wrong(
                    told.split(" at line ").next().unwrap_or_default().replace(char::is_control, "\u{fffd}"),
                )
            })?;
            let at = At::parse(&record)
                .ok_or_else(|| wrong(format!("{record:?} is no topic/partition@offset")))?;
            let new = match (value, bytes) {
                (Some(value), None) => value.get().to_owned(),
                (None, Some(bytes)) => bytes,
                _ => return Err(wrong("exactly one of value and bytes is needed".to_owned())),
            };
            if replacements.insert(at, new).is_some() {
                return Err(wrong(format!("{record} stands twice")));
            }
        }
        if replacements.is_empty() {
            return Err(EditError::Line { line: 1, why: "the file names no record".to_owned() });
        }
        Ok(Edit::Replacements(replacements))
    }

    /// The value to send in place of a reject's, where it is to be another one. An event_id that the reject had stays.
    ///
    /// # Errors
    /// [`EditError::Record`].
    pub fn apply(&self, reject: &Reject) -> Result<Option<Vec<u8>>, EditError> {
        let new = match self {
            Edit::None => return Ok(None),
            Edit::Jq(program) => program.run(reject.value.as_deref().unwrap_or_default()),
            Edit::Replacements(replacements) => match replacements.get(&reject.at) {
                Some(new) => Ok(new.clone().into_bytes()),
                None => return Ok(None),
            },
        };
        let new = new
            .and_then(|new| same_event(reject.event_id, &new).map(|()| new))
            .map_err(|why| EditError::Record { at: reject.at.clone(), why })?;
        Ok(Some(new).filter(|new| reject.value.as_ref() != Some(new)))
    }
}

/// A line of the file of replacements.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    record: String,
    value: Option<Box<RawValue>>,
    bytes: Option<String>,
}

/// An edit mends an event; it does not make another one of it.
fn same_event(had: Option<Uuid>, value: &[u8]) -> Result<(), String> {
    let told = |e: serde_json::Error| e.to_string().split(" at line ").next().unwrap_or_default().to_owned();
    let made: serde_json::Value = serde_json::from_slice(value)
        .map_err(|e| format!("the edit makes no JSON object of it: {}", told(e)))?;
    if !made.is_object() {
        let kind = match made {
            serde_json::Value::Array(_) => "an array",
            serde_json::Value::String(_) => "a text",
            serde_json::Value::Number(_) => "a number",
            _ => "a bare word",
        };
        return Err(format!("the edit makes {kind} of it, and no JSON object"));
    }
    let Some(had) = had else { return Ok(()) };
    match event_id(value) {
        Some(has) if has == had => Ok(()),
        Some(has) => {
            Err(format!("the edit makes another event_id of it, {has} in place of {had}; it has to stay"))
        }
        None => Err(format!("the edit takes its event_id {had} away; it has to stay")),
    }
}

/// The event_id of a value, if it has one.
pub fn event_id(value: &[u8]) -> Option<Uuid> {
    serde_json::from_slice::<serde_json::Value>(value).ok()?.get("event_id")?.as_str()?.parse().ok()
}

type Data = data::JustLut<Val>;

/// A compiled expression.
pub struct Program(jaq_core::Filter<Data>);

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Program")
    }
}

/// What reads this process's environment, where secrets are, or ends it, is left out.
const LEFT_OUT: [&str; 3] = ["env", "halt", "input"];

/// The longest expression, in bytes. What reads it goes down one call for each level, so a longer one could end the process.
const EXPRESSION_BYTES: usize = 1_024;
/// Brackets inside one another, those within texts included.
const EXPRESSION_DEPTH: usize = 64;

/// Why an expression is not even read.
fn too_much(expression: &str) -> Option<String> {
    if expression.len() > EXPRESSION_BYTES {
        let bytes = expression.len();
        return Some(format!("it has {bytes} bytes; at most {EXPRESSION_BYTES} are allowed: use --replace"));
    }
    let mut depth = 0_usize;
    for byte in expression.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > EXPRESSION_DEPTH {
            return Some(format!(
                "its brackets are nested too deeply; at most {EXPRESSION_DEPTH} levels are allowed"
            ));
        }
    }
    None
}

/// The beginning of an expression, to be told in an error.
fn beginning(expression: &str) -> String {
    match expression.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &expression[..at]),
        None => expression.to_owned(),
    }
}

impl Program {
    fn compile(expression: &str) -> Result<Program, EditError> {
        let wrong = |why: String| EditError::Expression { expression: beginning(expression), why };
        if let Some(why) = too_much(expression) {
            return Err(wrong(why));
        }
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let defs = defs.filter(|def| !["halt", "halt_error", "env", "$ENV"].contains(&def.name));
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let funs = funs.filter(|(name, ..)| !LEFT_OUT.contains(name));
        let arena = Arena::default();
        let loaded = Loader::new(defs).load(&arena, File { code: expression, path: () });
        let modules = loaded.map_err(|errors| wrong(load_error(&errors)))?;
        load::import(&modules, |_| Err(String::new())).map_err(|errors| wrong(load_error(&errors)))?;
        let compiled = Compiler::default().with_funs(funs).compile(modules);
        compiled.map(Program).map_err(|errors| {
            let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
            wrong(first.map_or_else(String::new, |(name, what)| {
                format!("there is no {} {name:?} here", what.as_str())
            }))
        })
    }

    /// What it makes of a value: exactly one, as compact JSON.
    fn run(&self, value: &[u8]) -> Result<Vec<u8>, String> {
        // What is no JSON to others is none here: this reader would take more.
        if let Err(error) = serde_json::from_slice::<&RawValue>(value) {
            return Err(format!(
                "its value is no JSON ({error}), so no expression can mend it: use --replace"
            ));
        }
        if deeper_than(value, Limits::default().depth) {
            return Err(
                "its value is nested too deeply, so no expression can mend it: use --replace".to_owned()
            );
        }
        let input = read::parse_single(value).map_err(|e| format!("its value is no JSON: {e}"))?;
        let context = Ctx::<Data>::new(&self.0.lut, Vars::new([]));
        let mut outputs = self.0.id.run((context, input));
        let Some(first) = outputs.next() else {
            return Err("the expression makes nothing of it; it has to make one value".to_owned());
        };
        let value = first.map_err(|exception| match exception.get_err() {
            Ok(error) => format!("the expression fails: {error}"),
            Err(_) => "the expression breaks off".to_owned(),
        })?;
        if outputs.next().is_some() {
            return Err("the expression makes several values of it; it has to make one".to_owned());
        }
        Ok(value.to_string().into_bytes())
    }
}

fn load_error(errors: &jaq_core::load::Errors<&str, ()>) -> String {
    use jaq_core::load::Error;
    let near = |rest: &str| {
        let rest: String = rest.chars().take(20).collect();
        if rest.is_empty() { "at its end".to_owned() } else { format!("at {rest:?}") }
    };
    match errors.first().map(|(_, error)| error) {
        Some(Error::Lex(errors)) => {
            errors.first().map(|(expected, rest)| format!("{} expected {}", expected.as_str(), near(rest)))
        }
        Some(Error::Parse(errors)) => {
            errors.first().map(|(expected, rest)| format!("{} expected {}", expected.as_str(), near(rest)))
        }
        Some(Error::Io(_)) => Some("modules cannot be loaded here".to_owned()),
        None => None,
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use chrono::DateTime;
    use stocktide_store::dlq::{Handling, State};

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn reject(value: &str) -> Reject {
        let handling = Handling {
            state: State::Open,
            attempts: 0,
            resent: 0,
            action: None,
            at: None,
            by: None,
            note: None,
            edited: None,
            sent_offset: None,
            replays: 0,
        };
        Reject {
            at: At { topic: "online_orders".to_owned(), partition: 0, offset: 41 },
            rejected_at: DateTime::UNIX_EPOCH,
            reason: None,
            detail: None,
            event_id: value.contains(ID).then(|| ID.parse().unwrap()),
            redacted: false,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
            handling,
        }
    }

    fn mended(expression: &str, value: &str) -> Result<Option<String>, String> {
        let mended = Edit::jq(expression).unwrap().apply(&reject(value));
        mended.map(|new| new.map(|new| String::from_utf8(new).unwrap())).map_err(|e| e.to_string())
    }

    fn event(rest: &str) -> String {
        format!(r#"{{"event_id":"{ID}",{rest}}}"#)
    }

    #[test]
    fn an_expression_mends_a_value_and_leaves_the_rest_as_it_was() {
        let value =
            event(r#""price":1.10,"n":123456789012345678901234567890,"items":[{"product_id":"aple"}]"#);
        let new = mended(r#".items[].product_id |= sub("aple"; "apple")"#, &value);
        assert_eq!(new, Ok(Some(value.replace("aple", "apple"))));
        assert_eq!(mended(".", &value), Ok(None), "what does not change is sent as it is");
    }

    #[test]
    fn an_expression_that_is_none_is_named_with_what_is_wrong() {
        for (expression, why) in [
            (".items[", "expected"),
            (".a | frobnicate", "frobnicate"),
            ("$ENV.STOCKTIDE_DATABASE_URL", "ENV"),
            ("env", "env"),
            ("halt", "halt"),
            ("input", "input"),
            (r#"import "/etc/hostname" as $x; $x"#, "modules cannot be loaded here"),
            (r#"include "x"; ."#, "modules cannot be loaded here"),
        ] {
            let Err(error) = Edit::jq(expression) else { panic!("{expression} is allowed") };
            let told = error.to_string();
            assert!(told.contains(why) && told.contains("does not parse") && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn an_expression_that_is_too_long_or_nested_too_deeply_is_refused_before_it_is_read() {
        for (expression, why) in [
            ("[".repeat(65), "nested too deeply"),
            ("\"\\(".repeat(65), "nested too deeply"),
            (format!(".a | {}", "[".repeat(9_000)), "at most 1024"),
        ] {
            let Err(error) = Edit::jq(&expression) else { panic!("it is allowed") };
            let told = error.to_string();
            assert!(told.contains(why) && told.len() < 300, "{told}");
        }
        let just = format!("{}.a{}", "[".repeat(64), "]".repeat(64));
        assert!(Edit::jq(&just).is_ok());
        // What nests without brackets.
        for piece in ["-", "try ", "def f: ", ".|", "if ", ". as $x|", "reduce . as $x "] {
            let long = format!("{}.", piece.repeat(1_000 / piece.len()));
            // Whether it is one or not: it ends.
            let _ = Edit::jq(&long);
        }
    }

    #[test]
    fn an_edit_makes_exactly_one_json_object_with_the_same_event_id() {
        let value = event(r#""a":1"#);
        for (expression, why) in [
            ("empty", "makes nothing"),
            (".,.", "several values"),
            (".a", "makes a number of it, and no JSON object"),
            ("[.event_id]", "makes an array of it"),
            (".event_id", "makes a text of it"),
            (".a.b", "the expression fails"),
            (r#".event_id = "01890a5d-ac96-774b-bcce-b302099a8058""#, "another event_id"),
            ("del(.event_id)", "takes its event_id"),
            (".a = nan", "no JSON object"),
        ] {
            let told = mended(expression, &value).unwrap_err();
            assert!(told.starts_with("online_orders/0@41: ") && told.contains(why), "{expression}: {told}");
        }
        let told = mended(".", "{\"a\": ").unwrap_err();
        assert!(told.contains("no JSON") && told.contains("--replace"), "{told}");
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let told = mended(".", &deep).unwrap_err();
        assert!(told.contains("nested too deeply") && told.contains("--replace"), "{told}");
        // One that had none may get one.
        let new = mended(&format!(".event_id = \"{ID}\""), r#"{"a":1}"#);
        assert_eq!(new, Ok(Some(format!(r#"{{"a":1,"event_id":"{ID}"}}"#))));
    }

    #[test]
    fn a_file_replaces_values_by_record_and_its_mistakes_are_told_by_line() {
        let new = event(r#""a": 2"#);
        let file = format!("\n{{\"record\": \"online_orders/0@41\", \"value\": {new}}}\n");
        let edit = Edit::replacements(&file).unwrap();
        assert_eq!(edit.apply(&reject(&event(r#""a":1"#))).unwrap(), Some(new.into_bytes()));
        for (file, line, why) in [
            ("", 1, "no record"),
            ("{", 1, "EOF"),
            ("\n{\"record\": \"x\", \"value\": {}}", 2, "topic/partition@offset"),
            ("{\"record\": \"a/0@1\"}", 1, "exactly one of"),
            ("{\"record\": \"a/0@1\", \"value\": 1, \"bytes\": \"1\"}", 1, "exactly one of"),
            ("{\"record\": \"a/0@1\", \"value\": 1}\n{\"record\": \"a/0@1\", \"value\": 1}", 2, "twice"),
            ("{\"recrod\": \"a/0@1\", \"value\": 1}", 1, "recrod"),
        ] {
            let Err(error) = Edit::replacements(file) else { panic!("{file} is allowed") };
            let told = error.to_string();
            assert!(told.starts_with(&format!("line {line}: ")) && told.contains(why), "{told}");
        }
    }
}
