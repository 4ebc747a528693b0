//! Calls of the Kafka client that may never return, with an end.
//!
//! `send_offsets_to_transaction` ignores its timeout while librdkafka looks for the group's coordinator
//! (librdkafka #5456, #5511), and `begin_transaction` has none: with brokers that come and go the thread that called would be
//! blocked for as long as nothing changes. So they are made on a thread of their own, which is left to itself when it does not
//! answer in time. Its producer is thrown away as after any other doubt (rule 3): its successor retires its transactional id,
//! and should the call come to life again, the broker refuses it.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::error::KafkaResult;
use rdkafka::producer::ThreadedProducer;

use crate::publisher::Deliveries;

/// What the client gets beyond the time that it was told, to say itself that it was not enough.
const GRACE: Duration = Duration::from_secs(1);

type Client = ThreadedProducer<Deliveries>;
type Call = Box<dyn FnOnce(&Client) + Send>;

/// A producer, and the thread that waits for it.
pub struct Patient {
    /// For what does not block.
    pub client: Arc<Client>,
    calls: mpsc::Sender<Call>,
}

impl Patient {
    /// Starts the thread. It ends when this value is dropped, or when the call that it is in returns.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(client: Client) -> anyhow::Result<Patient> {
        let client = Arc::new(client);
        let (calls, inbox) = mpsc::channel::<Call>();
        let patient = Arc::clone(&client);
        let work = move || inbox.iter().for_each(|call| call(&patient));
        std::thread::Builder::new().name("kafka calls".to_owned()).spawn(work)?;
        Ok(Patient { client, calls })
    }

    /// Makes a call, and waits for at most so long, and a little.
    ///
    /// # Errors
    /// What the call says; or it did not return.
    pub fn call<T: Send + 'static>(
        &self,
        longest: Duration,
        call: impl FnOnce(&Client) -> KafkaResult<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        // Nobody may be left to hear it.
        let call = move |client: &Client| drop(answer.send(call(client)));
        self.calls.send(Box::new(call)).ok().context("the thread of the Kafka client has ended")?;
        let answer = answered.recv_timeout(longest + GRACE);
        Ok(answer.context("the Kafka client did not come back in time, and is left to itself")??)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_call_that_never_returns_costs_its_time_and_no_more() {
        let client = rdkafka::ClientConfig::new().create_with_context(Deliveries::default()).unwrap();
        let patient = Patient::start(client).unwrap();
        assert_eq!(patient.call(Duration::ZERO, |_| Ok(7)).unwrap(), 7);
        let (_never, forever) = mpsc::channel::<()>();
        let begun = Instant::now();
        let hangs = patient.call(Duration::from_millis(10), move |_| {
            let _ = forever.recv();
            Ok(())
        });
        assert!(hangs.unwrap_err().to_string().contains("did not come back in time"));
        assert!(begun.elapsed() < Duration::from_secs(10));
        let begun = Instant::now();
        drop(patient);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
