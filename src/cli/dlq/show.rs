//! `dlq show`

use std::pin::pin;
use std::process::ExitCode;

use anyhow::bail;
use futures_util::TryStreamExt;
use serde_json::{Map, Value, json};
use stocktide_runtime::Config;
use stocktide_runtime::terminal::escape;
use stocktide_store::dlq::{self, Action, Earlier, Reject, Selection};

use super::look::{handling_json, time};
use super::{name_record, nothing, pool};
use crate::cli::say;
use crate::cli::topics::render::put;

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The record (online_orders/0@41), or the event_id of its event.
    record: String,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Shows a record, or all rejected records of an event.
pub async fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut selection = Selection::default();
    name_record(&args.record, &mut selection)?;
    let pool = pool(config).await?;
    let mut found = 0;
    {
        let mut rejects = pin!(dlq::rejects(&pool, &selection, None));
        while let Some(reject) = rejects.try_next().await? {
            let actions = dlq::actions_on(&pool, &reject.at).await?;
            let history = dlq::history(&pool, &reject.at).await?;
            if args.json {
                say(in_json(&reject, &actions, &history))?;
            } else {
                say(format!(
                    "{}{}",
                    if found > 0 { "\n" } else { "" },
                    in_words(&reject, &actions, &history)
                ))?;
            }
            found += 1;
        }
    }
    pool.close().await;
    if found == 0 {
        bail!("{}: {}", args.record, nothing(&selection));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), escape)
}

/// Everything that a producer wrote is escaped: each item is one line.
fn in_words(reject: &Reject, actions: &[Action], history: &[Earlier]) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<9}  {text}"));
    line("record", reject.at.to_string());
    line("rejected", time(reject.rejected_at));
    line("reason", shown(reject.reason.as_deref().map(str::as_bytes)));
    line("detail", shown(reject.detail.as_deref().map(str::as_bytes)));
    line(
        "event_id",
        reject.event_id.map_or_else(|| "none that could be read".to_owned(), |id| id.to_string()),
    );
    line("state", reject.handling.state.as_str().to_owned());
    for action in actions {
        line("", told(action, &reject.at));
    }
    for earlier in history {
        line("earlier", told_earlier(earlier, &reject.at));
    }
    line("key", shown(reject.key.as_deref()));
    for (name, value) in &reject.headers {
        line("header", format!("{}: {}", escape(name.as_bytes()), shown(value.as_deref())));
    }
    let note = if reject.redacted { " (card numbers are masked)" } else { "" };
    let bytes = reject
        .value
        .as_ref()
        .map_or_else(|| "a tombstone".to_owned(), |v| format!("{} bytes{note}", v.len()));
    line("value", bytes);
    lines.push(shown(reject.value.as_deref()));
    lines.join("\n")
}

fn told(action: &Action, at: &dlq::At) -> String {
    let by = escape(action.by_whom.as_bytes());
    let when = time(action.done_at.unwrap_or(action.intended_at));
    let edited = if action.edited { ", with another value" } else { "" };
    let place = match (action.done_at, action.sent_offset) {
        (None, _) => ", broken off: whether it was sent is found out by the next replay".to_owned(),
        (_, Some(offset)) => format!(" as {}/{}@{offset}", at.topic, at.partition),
        _ => String::new(),
    };
    let note = action.note.as_ref().map_or_else(String::new, |note| format!(": {}", escape(note.as_bytes())));
    format!("{} {when} by {by}{edited}{place}{note}", action.action)
}

fn told_earlier(earlier: &Earlier, at: &dlq::At) -> String {
    let by = earlier.by_whom.as_deref().unwrap_or("unknown");
    format!(
        "{}/{}@{}, rejected {} ({}), replayed {} by {}{}",
        at.topic,
        at.partition,
        earlier.offset,
        time(earlier.rejected_at),
        shown(earlier.reason.as_deref().map(str::as_bytes)),
        time(earlier.replayed_at),
        escape(by.as_bytes()),
        if earlier.edited { ", with another value" } else { "" }
    )
}

fn in_json(reject: &Reject, actions: &[Action], history: &[Earlier]) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("record", json!(reject.at.to_string()));
    set("topic", json!(reject.at.topic));
    set("partition", json!(reject.at.partition));
    set("offset", json!(reject.at.offset));
    set("rejected_at", json!(reject.rejected_at));
    set("reason", json!(reject.reason));
    set("detail", json!(reject.detail));
    set("event_id", json!(reject.event_id));
    set("redacted", json!(reject.redacted));
    set("handling", handling_json(&reject.handling));
    set("actions", json!(actions));
    set("history", json!(history));
    put(&mut object, "key", reject.key.as_deref());
    let headers = reject.headers.iter().map(|(name, value)| {
        let mut header = Map::from_iter([("name".to_owned(), json!(name))]);
        put(&mut header, "value", value.as_deref());
        Value::Object(header)
    });
    let headers = headers.collect();
    object.insert("headers".to_owned(), headers);
    put(&mut object, "value", reject.value.as_deref());
    Value::Object(object)
}
