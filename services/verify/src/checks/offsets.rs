//! Offsets move only after what they stand for is durable, and what is done is published.

use crate::facts::Progress;
use crate::report::Check;

/// An input partition, as the broker and the database see it.
#[derive(Debug, Clone)]
pub struct Input {
    /// Such as `online_orders-2`.
    pub name: String,
    /// As the database was read.
    pub progress: Progress,
    /// P, read after K.
    pub next_offset_now: i64,
    /// The timer's number, read after K.
    pub timer_seq_now: i64,
    /// K: the group's committed offset.
    pub committed: Option<i64>,
    /// The number in its metadata.
    pub number: Option<i64>,
    /// The first offset that the broker still has.
    pub low: i64,
    /// The offset after the last one.
    pub end: i64,
}

/// An output partition, as the broker sees it.
#[derive(Debug, Clone)]
pub struct Output {
    /// Such as `dlq-0`.
    pub name: String,
    /// Up to where a read_committed reader gets.
    pub stable: i64,
    /// The offset after the last one.
    pub end: i64,
}

/// The check, and what else is worth knowing.
pub fn check(inputs: &[Input], outputs: &[Output]) -> (Check, Vec<String>) {
    let mut check = Check::new(
        "offsets",
        "everything settled is published, and Kafka's offsets never run ahead of the database",
    );
    let mut notes = Vec::new();
    for input in inputs {
        let problem = input_problem(input);
        check.item(problem.map(|problem| format!("{}: {problem}", input.name)));
        let waiting = input.end - input.next_offset_now.max(input.low);
        if waiting > 0 {
            notes.push(format!("{}: up to {waiting} records wait to be processed", input.name));
        }
    }
    for output in outputs {
        check.expect(output.stable >= output.end, || {
            let Output { name, stable, end } = output;
            format!("{name}: an open transaction hides what lies from {stable} to {end}")
        });
    }
    (check, notes)
}

fn input_problem(input: &Input) -> Option<String> {
    let Progress { start_offset, next_offset, published_offset, .. } = input.progress;
    if input.end < next_offset {
        return Some(format!(
            "ends at {}, but the database has settled up to {next_offset}: not the same topic",
            input.end
        ));
    }
    // Before the first publication the recorded start stands for K.
    let committed = input.committed.unwrap_or(start_offset);
    if committed > input.next_offset_now {
        let now = input.next_offset_now;
        return Some(format!("Kafka's committed offset {committed} is ahead of the database's {now}"));
    }
    if published_offset.is_some_and(|published| published > committed) {
        let published = published_offset.unwrap_or_default();
        return Some(format!(
            "the database takes {published} for published, Kafka's committed offset is {committed}"
        ));
    }
    if committed < next_offset {
        return Some(format!(
            "{committed} to {next_offset} are applied, but not yet published (is a processor running?)"
        ));
    }
    timer_problem(input)
}

/// What a timer put out is published up to the number beside the committed offset.
fn timer_problem(input: &Input) -> Option<String> {
    let Progress { timer_seq, timer_published, .. } = input.progress;
    let number = input.number.unwrap_or(0);
    match () {
        () if number > input.timer_seq_now => {
            let now = input.timer_seq_now;
            Some(format!("Kafka's number {number} of the timer is ahead of the database's {now}"))
        }
        () if timer_published > number => Some(format!(
            "the database takes the timer's {timer_published} for published, Kafka's number is {number}"
        )),
        () if number < timer_seq => Some(format!(
            "the timer's outputs above {number} up to {timer_seq} are not yet published (is a processor running?)"
        )),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn input(alter: impl FnOnce(&mut Input)) -> Vec<String> {
        let progress = Progress { next_offset: 10, published_offset: Some(8), ..Progress::default() };
        let name = "online_orders-0".to_owned();
        let progress = Progress { timer_seq: 3, timer_published: 2, ..progress };
        let mut input = Input {
            name,
            progress,
            next_offset_now: 12,
            timer_seq_now: 4,
            committed: Some(11),
            number: Some(3),
            low: 0,
            end: 12,
        };
        alter(&mut input);
        check(&[input], &[]).0.examples
    }

    #[test]
    fn kafka_s_offset_lies_between_what_was_settled_and_what_is() {
        assert!(input(|_| ()).is_empty());
        assert_eq!(
            input(|i| i.committed = Some(13)),
            ["online_orders-0: Kafka's committed offset 13 is ahead of the database's 12"]
        );
        assert_eq!(
            input(|i| i.committed = Some(9)),
            ["online_orders-0: 9 to 10 are applied, but not yet published (is a processor running?)"]
        );
        assert_eq!(
            input(|i| i.committed = Some(7)),
            ["online_orders-0: the database takes 8 for published, Kafka's committed offset is 7"]
        );
        assert_eq!(
            input(|i| i.end = 9),
            ["online_orders-0: ends at 9, but the database has settled up to 10: not the same topic"]
        );
    }

    #[test]
    fn the_timer_s_number_in_kafka_lies_between_what_was_put_out_and_what_is() {
        assert!(input(|i| i.number = Some(4)).is_empty());
        assert_eq!(
            input(|i| i.number = Some(5)),
            ["online_orders-0: Kafka's number 5 of the timer is ahead of the database's 4"]
        );
        assert_eq!(
            input(|i| i.number = Some(2)),
            [
                "online_orders-0: the timer's outputs above 2 up to 3 are not yet published (is a processor running?)"
            ]
        );
        assert_eq!(
            input(|i| i.number = None),
            ["online_orders-0: the database takes the timer's 2 for published, Kafka's number is 0"]
        );
    }

    #[test]
    fn nothing_published_yet_is_right_only_where_nothing_is_settled() {
        let fresh = |next_offset| Progress { start_offset: 5, next_offset, ..Progress::default() };
        assert!(input(|i| (i.progress, i.committed) = (fresh(5), None)).is_empty());
        assert_eq!(
            input(|i| (i.progress, i.committed) = (fresh(6), None)),
            ["online_orders-0: 5 to 6 are applied, but not yet published (is a processor running?)"]
        );
    }

    #[test]
    fn records_that_wait_are_told_and_hidden_outputs_differ() {
        let progress = Progress { next_offset: 10, ..Progress::default() };
        let name = "store_sales-1".to_owned();
        let committed = Some(10);
        let input = Input {
            name,
            progress,
            next_offset_now: 10,
            timer_seq_now: 0,
            committed,
            number: None,
            low: 0,
            end: 15,
        };
        let output = Output { name: "dlq-0".to_owned(), stable: 3, end: 5 };
        let (check, notes) = check(&[input], &[output]);
        assert_eq!(notes, ["store_sales-1: up to 5 records wait to be processed"]);
        assert_eq!(check.examples, ["dlq-0: an open transaction hides what lies from 3 to 5"]);
        assert_eq!((check.checked, check.differing), (2, 1));
    }
}
