//! A replay, from the selection to the last record.

use std::pin::pin;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use stocktide_domain::erase::WHOLLY;
use stocktide_runtime::{Config, clock};
use stocktide_store::dlq::actions::{Desk, Intent, Pending, Run};
use stocktide_store::dlq::{
    self, At, Earlier, Handling, Headers, Origin, Reject, Selection, Standing, State,
};
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::edit::{Edit, event_id};
use crate::resend::{Outgoing, Partitions, Resender, Sent};
use crate::{PREFIX, REPLAY_COUNT, REPLAY_HISTORY, REPLAY_ID, TOLD};

/// So many records are sent together.
const CHUNK_RECORDS: usize = 500;
/// Or so many bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// What is to be replayed, and how.
pub struct Options {
    /// Which rejected records.
    pub selection: Selection,
    /// What is done to their values.
    pub edit: Edit,
    /// So many of them at most.
    pub limit: Option<u64>,
    /// What is left out.
    pub rules: Rules,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub note: Option<String>,
}

/// What is left out of a replay.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Send also what was replayed or discarded before, or came back too often.
    pub again: bool,
    /// What has been replayed so often, its earlier rejects counted, is left out.
    pub most_replays: i32,
}

/// Rejected records that are not sent, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Their event has been applied since.
    pub applied: u64,
    /// They were replayed before.
    pub replayed: u64,
    /// They were discarded.
    pub discarded: u64,
    /// They came back too often.
    pub came_back: u64,
}

impl Skipped {
    /// How many they are.
    pub fn total(&self) -> u64 {
        self.applied + self.replayed + self.discarded + self.came_back
    }

    fn count(&mut self, state: State, replays: i32, rules: Rules, records: u64) -> bool {
        let count = match state {
            State::Applied => &mut self.applied,
            _ if rules.again => return false,
            State::Discarded => &mut self.discarded,
            State::Replayed | State::Pending => &mut self.replayed,
            State::Open if replays >= rules.most_replays => &mut self.came_back,
            State::Open => return false,
        };
        *count += records;
        true
    }
}

/// What a replay would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// How many rejected records were asked for.
    pub matching: u64,
    /// How many would be sent.
    pub to_send: u64,
    /// Of these, the ones that have no event_id which could be known again.
    pub without_event_id: u64,
    /// Replays that broke off: whether these were sent is found out first.
    pub broken_off: u64,
    /// What would not be sent.
    pub skipped: Skipped,
}

impl Plan {
    /// Of how the records of a selection stand.
    pub fn of(standing: &[Standing], rules: Rules, limit: Option<u64>) -> Plan {
        let mut plan = Plan::default();
        for of in standing {
            let records = of.records.max(0) as u64;
            plan.matching += records;
            let state = State::of_name(&of.state).unwrap_or(State::Open);
            if state == State::Pending {
                plan.broken_off += records;
                continue;
            }
            if !plan.skipped.count(state, of.replays, rules, records) {
                plan.to_send += records;
                plan.without_event_id += of.without_event_id.max(0) as u64;
            }
        }
        plan.to_send = plan.to_send.min(limit.unwrap_or(u64::MAX));
        plan.without_event_id = plan.without_event_id.min(plan.to_send);
        plan
    }
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The run's id, as it stands with its actions.
    pub run: Uuid,
    /// Records that were sent.
    pub sent: u64,
    /// Of these, the ones with another value than the log's.
    pub edited: u64,
    /// Of these, the ones that have no event_id which could be known again.
    pub without_event_id: u64,
    /// Records of an earlier run that broke off which turned out to have been sent.
    pub found: u64,
    /// Records of an earlier run that broke off which turned out not to have been sent; they are open again.
    pub not_found: u64,
    /// Records of an earlier run that broke off whose topic is gone, or has lost the place where they would lie: nobody can tell
    /// any more, so they count as replayed.
    pub lost_sight_of: u64,
    /// What was not sent.
    pub skipped: Skipped,
    /// What cannot be sent, and why; it stays open.
    pub refused: Vec<(At, String)>,
}

/// When a replay happens: what is written down and sent carries this moment.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// The run.
    pub run: Uuid,
    /// When it began.
    pub at: DateTime<Utc>,
}

impl Mark {
    /// A new run, now.
    pub fn now() -> Mark {
        Mark { run: Uuid::new_v4(), at: clock::now() }
    }
}

/// Replays rejected records. Told after each transaction how many have been sent.
///
/// # Errors
/// Something is away, or a record cannot be mended as asked, or its topic is gone. What was sent by then is written down, and
/// is not sent by the next call.
pub async fn replay(
    config: &Config,
    pool: &PgPool,
    options: &Options,
    mark: Mark,
    on_sent: &dyn Fn(u64),
) -> anyhow::Result<Outcome> {
    let mut desk = Desk::take(pool).await?;
    let resender = block_in_place(|| Resender::connect(config))?;
    let mut outcome = Outcome { run: mark.run, ..Outcome::default() };
    let known = block_in_place(|| resender.partitions())?;
    settle(&mut desk, &resender, &known, &mut outcome).await?;
    check_topics(config, pool, options, &known).await?;
    if !matches!(options.edit, Edit::None) {
        rehearse(pool, options, |_, _, _| {}).await?;
    }
    let mut replay = Replay { desk, resender, options, mark, pool, outcome, on_sent };
    let done = replay.run().await;
    let Replay { desk, outcome, .. } = replay;
    done.with_context(|| {
        let sent = outcome.sent;
        format!("broken off after {sent} records: call it again to send the rest, and nothing twice")
    })?;
    desk.leave().await?;
    Ok(outcome)
}

/// Finds out what became of the intentions of runs that broke off.
async fn settle(
    desk: &mut Desk,
    resender: &Resender,
    known: &Partitions,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let pending = desk.pending().await?;
    if pending.is_empty() {
        return Ok(());
    }
    let there = |pending: &Pending| known.get(&pending.topic).is_some_and(|count| pending.partition < *count);
    let (pending, gone): (Vec<_>, Vec<_>) = pending.into_iter().partition(there);
    let found = block_in_place(|| resender.find(&pending))?;
    let (sent, not_sent): (Vec<_>, Vec<_>) =
        pending.iter().map(|pending| pending.replay_id).partition(|id| found.contains_key(id));
    let gone = gone.iter().map(|pending| (pending.replay_id, None));
    let sent: Vec<_> =
        sent.into_iter().map(|id| (id, found.get(&id).copied().flatten())).chain(gone).collect();
    // At most once comes first: what may have been sent, was.
    outcome.lost_sight_of = sent.iter().filter(|(_, place)| place.is_none()).count() as u64;
    (outcome.found, outcome.not_found) = (sent.len() as u64 - outcome.lost_sight_of, not_sent.len() as u64);
    desk.sent(&sent, clock::now()).await?;
    desk.take_back(&not_sent).await?;
    let Outcome { found, not_found, lost_sight_of, .. } = outcome;
    tracing::info!(found, not_found, lost_sight_of, "settled a replay that broke off");
    Ok(())
}

/// Refuses the whole where a record that is to be sent has no topic any more.
async fn check_topics(
    config: &Config,
    pool: &PgPool,
    options: &Options,
    known: &Partitions,
) -> anyhow::Result<()> {
    let brokers = config.kafka_brokers()?;
    for Origin { topic, partition, state, replays } in dlq::origins(pool, &options.selection).await? {
        let state = State::of_name(&state).unwrap_or(State::Open);
        if Skipped::default().count(state, replays, options.rules, 1) {
            continue;
        }
        match known.get(&topic) {
            None => bail!("topic {topic} no longer exists at {brokers}: nothing was sent"),
            Some(partitions) if partition >= *partitions => {
                bail!(
                    "partition {partition} of topic {topic} no longer exists at {brokers}: nothing was sent"
                )
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What would be sent first, with the new value where it is mended; every record is mended for it.
///
/// # Errors
/// The database is away, or a record cannot be mended as asked.
pub async fn preview(
    pool: &PgPool,
    options: &Options,
    records: usize,
) -> anyhow::Result<Vec<(At, Option<Vec<u8>>)>> {
    let mut first = Vec::new();
    let most = options.limit.unwrap_or(u64::MAX);
    rehearse(pool, options, |taken, reject, new| {
        if first.len() < records && taken < most {
            first.push((reject.at.clone(), new));
        }
    })
    .await?;
    Ok(first)
}

/// Mends every record without sending any, so that a mistake in the last one does not leave half of them sent.
async fn rehearse(
    pool: &PgPool,
    options: &Options,
    mut each: impl FnMut(u64, &Reject, Option<Vec<u8>>),
) -> anyhow::Result<()> {
    let (mut skipped, mut taken) = (Skipped::default(), 0);
    let mut rejects = pin!(dlq::rejects(pool, &options.selection, None));
    while let Some(reject) = rejects.try_next().await? {
        if !skipped.count(reject.handling.state, reject.handling.replays, options.rules, 1) {
            let new = options.edit.apply(&reject).context("nothing was sent")?;
            each(taken, &reject, new);
            taken += 1;
        }
    }
    Ok(())
}

struct Replay<'a> {
    desk: Desk,
    resender: Resender,
    options: &'a Options,
    mark: Mark,
    pool: &'a PgPool,
    outcome: Outcome,
    on_sent: &'a dyn Fn(u64),
}

/// A record, and what is written down of it.
type Step = (Intent, Outgoing);

impl Replay<'_> {
    /// What is selected is what one statement sees at its start: what comes back meanwhile is not among it, so this ends.
    async fn run(&mut self) -> anyhow::Result<()> {
        let most = self.options.limit.unwrap_or(u64::MAX);
        let mut rejects = pin!(dlq::rejects(self.pool, &self.options.selection, None));
        let (mut chunk, mut bytes, mut taken) = (Vec::new(), 0, 0);
        while let Some(reject) = rejects.try_next().await? {
            let Handling { state, replays, .. } = reject.handling;
            if self.outcome.skipped.count(state, replays, self.options.rules, 1) {
                continue;
            }
            if taken == most {
                break;
            }
            taken += 1;
            let step = match self.step(reject).await? {
                Ok(step) => step,
                Err(refused) => {
                    self.outcome.refused.push(refused);
                    continue;
                }
            };
            bytes += step.1.value.as_ref().map_or(0, Vec::len);
            chunk.push(step);
            if chunk.len() >= CHUNK_RECORDS || bytes >= CHUNK_BYTES {
                self.carry_out(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
        }
        self.carry_out(chunk).await
    }

    async fn step(&mut self, reject: Reject) -> anyhow::Result<Result<Step, (At, String)>> {
        let new = self.options.edit.apply(&reject)?;
        let edited = new.is_some();
        if !edited && reject.value.as_deref() == Some(WHOLLY) {
            let why = "nothing is left of it: it named a user who was forgotten";
            return Ok(Err((reject.at, why.to_owned())));
        }
        let value = new.or(reject.value);
        let Handling { replays, resent, .. } = reject.handling;
        let replays = replays.saturating_add(i32::try_from(resent).unwrap_or(i32::MAX)).saturating_add(1);
        let mut history = vec![Earlier {
            offset: reject.at.offset,
            rejected_at: reject.rejected_at,
            reason: reject.reason.clone(),
            replayed_at: self.mark.at,
            by_whom: None,
            edited,
        }];
        if reject.handling.replays > 0 {
            let earlier = dlq::history(self.pool, &reject.at).await?;
            history.extend(earlier.into_iter().map(|earlier| Earlier { by_whom: None, ..earlier }));
        }
        history.truncate(TOLD);
        let replay_id = Uuid::new_v4();
        let At { topic, partition, .. } = reject.at.clone();
        let search_from = block_in_place(|| self.resender.end(&topic, partition))?;
        let intent = Intent {
            at: reject.at,
            replay_id,
            reason: reject.reason,
            rejected_at: reject.rejected_at,
            event_id: reject.event_id.or_else(|| event_id(value.as_deref()?)),
            edited,
            value_sha256: value.as_deref().map(|value| Sha256::digest(value).to_vec()),
            replays,
            search_from,
        };
        let headers = headers(reject.headers, replay_id, replays, &history)?;
        Ok(Ok((intent, Outgoing { replay_id, topic, partition, key: reject.key, value, headers })))
    }

    /// Writes the intentions down, sends, and notes where the records lie. Halves what Kafka refuses until the culprits stand alone.
    async fn carry_out(&mut self, steps: Vec<Step>) -> anyhow::Result<()> {
        let mut parts = vec![steps];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let intents: Vec<Intent> = part.iter().map(|(intent, _)| intent.clone()).collect();
            let run = Run {
                id: self.mark.run,
                by: self.options.by.clone(),
                note: self.options.note.clone(),
                again: self.options.rules.again,
            };
            let stands = self.desk.intend(&run, &intents, clock::now()).await?;
            part.retain(|(intent, _)| stands.contains(&intent.replay_id));
            let records: Vec<Outgoing> = part.iter().map(|(_, outgoing)| outgoing.clone()).collect();
            if records.is_empty() {
                continue;
            }
            match block_in_place(|| self.resender.send(&records))? {
                Sent::All(offsets) => self.note(&part, &offsets).await?,
                Sent::Refused(why) => {
                    self.desk.take_back(&stands).await?;
                    if let [(intent, _)] = part.as_slice() {
                        self.outcome.refused.push((intent.at.clone(), why));
                        continue;
                    }
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
        }
        Ok(())
    }

    async fn note(&mut self, part: &[Step], offsets: &[i64]) -> anyhow::Result<()> {
        let places: Vec<(Uuid, Option<i64>)> =
            part.iter().zip(offsets).map(|((intent, _), offset)| (intent.replay_id, Some(*offset))).collect();
        self.outcome.sent += places.len() as u64;
        for (intent, _) in part {
            self.outcome.edited += u64::from(intent.edited);
            self.outcome.without_event_id += u64::from(intent.event_id.is_none());
        }
        self.desk.sent(&places, clock::now()).await?;
        (self.on_sent)(self.outcome.sent);
        Ok(())
    }
}

/// The record's own headers, and behind them what tells of its replays: only of this one and those that are written down.
fn headers(own: Headers, id: Uuid, replays: i32, history: &[Earlier]) -> Result<Headers, serde_json::Error> {
    let mut headers: Headers = own.into_iter().filter(|(name, _)| !name.starts_with(PREFIX)).collect();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), Some(value.into_bytes())));
    add(REPLAY_ID, id.to_string());
    add(REPLAY_COUNT, replays.to_string());
    add(REPLAY_HISTORY, serde_json::to_string(history)?);
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(state: &str, replays: i32, records: i64) -> Standing {
        Standing { state: state.to_owned(), replays, records, without_event_id: 1 }
    }

    #[test]
    fn what_was_dealt_with_or_came_back_too_often_is_left_out_unless_asked_for() {
        let all = [
            standing("open", 0, 10),
            standing("open", 2, 20),
            standing("open", 3, 40),
            standing("replayed", 0, 80),
            standing("discarded", 0, 160),
            standing("applied", 0, 320),
            standing("pending", 0, 640),
        ];
        let rules = Rules { again: false, most_replays: 3 };
        let plan = Plan::of(&all, rules, None);
        assert_eq!((plan.matching, plan.to_send, plan.without_event_id, plan.broken_off), (1270, 30, 2, 640));
        let skipped = Skipped { applied: 320, replayed: 80, discarded: 160, came_back: 40 };
        assert_eq!(plan.skipped, skipped);
        let plan = Plan::of(&all, Rules { again: true, ..rules }, Some(100));
        assert_eq!((plan.to_send, plan.skipped.total()), (100, 320));
    }

    #[test]
    fn the_headers_of_an_earlier_replay_give_way_and_the_record_s_own_stay() {
        let own =
            vec![("trace".to_owned(), Some(b"x".to_vec())), (REPLAY_COUNT.to_owned(), Some(b"7".to_vec()))];
        let names: Vec<String> =
            headers(own, Uuid::nil(), 2, &[]).into_iter().flatten().map(|(name, _)| name).collect();
        assert_eq!(names, ["trace", REPLAY_ID, REPLAY_COUNT, REPLAY_HISTORY]);
    }
}
